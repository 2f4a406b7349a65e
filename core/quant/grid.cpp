// SPDX-License-Identifier: Apache-2.0
#include "core/quant/grid.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace llmctl {
namespace {

// To bf16 away from zero, so that the largest weight stays inside the grid. x >= 0, finite.
float up_to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  bits = (bits + 0xffffu) & 0xffff0000u;
  std::memcpy(&x, &bits, 4);
  return x;
}

float rounded(const Grid& grid, float scale) { return grid.bf16_scale ? up_to_bf16(scale) : scale; }

double error_of(const Grid& grid, const float* w, const float* importance, int64_t n, float scale) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) {
    const double e = static_cast<double>(w[i]) - static_cast<double>(nearest_level(grid, w[i], scale)) * scale;
    sum += e * e * (importance ? importance[i] : 1.0f);
  }
  return sum;
}

}  // namespace

int8_t nearest_level(const Grid& grid, float w, float scale) {
  if (scale == 0.0f) return 0;
  const float low = grid.bits == 8 ? -127.0f : -8.0f, high = grid.bits == 8 ? 127.0f : 7.0f;
  const float x = std::clamp(w / scale, low, high);
  return static_cast<int8_t>((x + 0x1.8p23f) - 0x1.8p23f);  // nearest even, exact for |x| < 2^22
}

float choose_scale(const Grid& grid, const float* w, const float* importance, int64_t n) {
  float amax = 0.0f;
  for (int64_t i = 0; i < n; ++i) amax = std::max(amax, std::fabs(w[i]));
  if (amax < 0x1p-100f) return 0.0f;  // nothing a scale could hold
  if (grid.bits == 8) return rounded(grid, amax / 127.0f);
  constexpr int kSteps = 25;  // amax/7 down to amax/10: clipping a few large weights serves the rest
  float best = 0.0f;
  double least = 0.0;
  for (int i = 0; i < kSteps; ++i) {
    const float scale = rounded(grid, amax / (7.0f + 0.125f * static_cast<float>(i)));
    const double error = error_of(grid, w, importance, n, scale);
    if (i > 0 && !(error < least)) continue;
    best = scale;
    least = error;
  }
  return best;
}

QuantMatrix quantise_nearest(const View& w, const Grid& grid, const std::vector<float>& importance,
                             const kn::Exec& exec) {
  const int64_t rows = w.rows(), cols = w.cols(), groups = (cols + grid.group - 1) / grid.group;
  QuantMatrix m{.rows = rows, .cols = cols, .group = grid.group, .bits = grid.bits, .q = {}, .scale = {}};
  m.q.resize(static_cast<size_t>(rows * cols));
  m.scale.resize(static_cast<size_t>(rows * groups));
  kn::parallel_for(exec, rows, [&](int64_t r) {
    const float* row = w.as<float>() + r * cols;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t begin = g * grid.group, n = std::min(grid.group, cols - begin);
      const float* weight = importance.empty() ? nullptr : importance.data() + begin;
      const float scale = choose_scale(grid, row + begin, weight, n);
      m.scale[static_cast<size_t>(r * groups + g)] = scale;
      for (int64_t c = begin; c < begin + n; ++c)
        m.q[static_cast<size_t>(r * cols + c)] = nearest_level(grid, row[c], scale);
    }
  });
  return m;
}

void dequantise(const QuantMatrix& m, const View& out, const kn::Exec& exec) {
  const int64_t groups = (m.cols + m.group - 1) / m.group;
  kn::parallel_for(exec, m.rows, [&](int64_t r) {
    for (int64_t c = 0; c < m.cols; ++c)
      out.as<float>()[r * m.cols + c] = static_cast<float>(m.q[static_cast<size_t>(r * m.cols + c)]) *
                                        m.scale[static_cast<size_t>(r * groups + c / m.group)];
  });
}

}  // namespace llmctl
