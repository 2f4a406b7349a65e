// SPDX-License-Identifier: Apache-2.0
#include "core/quant/gptq.h"

#include <algorithm>

namespace llmctl {
namespace {

constexpr int64_t kTileRows = 8;  // rows that pass over the factor together, for the cache

// sum a[i] b[i] in four interleaved chains: a fixed order that the compiler may vectorise.
double dot(const double* a, const double* b, int64_t n) {
  double s[4] = {0, 0, 0, 0};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (int64_t j = 0; j < 4; ++j) s[j] += a[i + j] * b[i + j];
  for (; i < n; ++i) s[0] += a[i] * b[i];
  return (s[0] + s[2]) + (s[1] + s[3]);
}

void regularise(std::vector<double>& h, int64_t k, double damping) {
  double mean = 0.0;
  for (int64_t i = 0; i < k; ++i) mean += h[static_cast<size_t>(i * k + i)];
  mean /= static_cast<double>(k);
  check(mean < 1e300 && mean >= 0.0, Code::input, "[gptq] the calibration's activations are not finite");
  const double lift = mean > 0.0 ? damping * mean : 1.0;
  for (int64_t i = 0; i < k; ++i) {
    double& d = h[static_cast<size_t>(i * k + i)];
    d = d == 0.0 ? (mean > 0.0 ? mean : 1.0) : d + lift;
  }
}

// h = R R^T with R upper triangular, in place (what stands below the diagonal is left over). False
// when h is not positive definite.
bool factor_upper(std::vector<double>& h, int64_t k, const kn::Exec& exec) {
  constexpr int64_t kRows = 128;  // of one task: below that a barrier costs more than it gives
  double* a = h.data();
  for (int64_t j = k - 1; j >= 0; --j) {
    const double* row = a + j * k;
    const int64_t after = k - j - 1;
    const double square = row[j] - dot(row + j + 1, row + j + 1, after);
    if (!(square > 0.0)) return false;
    const double pivot = __builtin_sqrt(square);
    a[j * k + j] = pivot;
    const auto column = [&](int64_t task) {
      for (int64_t i = task * kRows; i < std::min(j, (task + 1) * kRows); ++i)
        a[i * k + j] = (a[i * k + j] - dot(a + i * k + j + 1, row + j + 1, after)) / pivot;
    };
    if (j <= kRows)
      column(0);
    else
      kn::parallel_for(exec, (j + kRows - 1) / kRows, column);
  }
  return true;
}

// U = R^-1 for R upper triangular, row by row: row i of U solves u R = e_i.
std::vector<double> inverse_upper(const std::vector<double>& r, int64_t k, const kn::Exec& exec) {
  std::vector<double> u(r.size(), 0.0);
  kn::parallel_for(exec, k, [&](int64_t i) {
    double* x = u.data() + i * k;
    x[i] = 1.0;
    for (int64_t t = i; t < k; ++t) {
      const double* row = r.data() + t * k;
      const double value = x[t] / row[t];
      x[t] = value;
      for (int64_t j = t + 1; j < k; ++j) x[j] -= value * row[j];
    }
  });
  return u;
}

// Rows [begin, end) of the result. `w` (end - begin, K) is used up.
void quantise_tile(std::vector<double>& w, int64_t begin, int64_t end, const Grid& grid,
                   const std::vector<double>& factor, const std::vector<float>& importance, QuantMatrix& out) {
  const int64_t k = out.cols, groups = (k + grid.group - 1) / grid.group;
  std::vector<float> piece(static_cast<size_t>(grid.group));
  for (int64_t c = 0; c < k; ++c) {
    const double* u = factor.data() + c * k;
    for (int64_t r = begin; r < end; ++r) {
      double* row = w.data() + (r - begin) * k;
      float& scale = out.scale[static_cast<size_t>(r * groups + c / grid.group)];
      if (c % grid.group == 0) {
        const int64_t n = std::min(grid.group, k - c);
        for (int64_t i = 0; i < n; ++i) piece[static_cast<size_t>(i)] = static_cast<float>(row[c + i]);
        scale = choose_scale(grid, piece.data(), importance.data() + c, n);
      }
      const int8_t q = nearest_level(grid, static_cast<float>(row[c]), scale);
      out.q[static_cast<size_t>(r * k + c)] = q;
      const double error = (row[c] - static_cast<double>(q) * static_cast<double>(scale)) / u[c];
      for (int64_t j = c + 1; j < k; ++j) row[j] -= error * u[j];
    }
  }
}

}  // namespace

std::vector<double> inverse_factor(const std::vector<double>& hessian, int64_t k, const kn::Exec& exec) {
  check(static_cast<int64_t>(hessian.size()) == k * k, Code::bug, "[gptq] H has ", hessian.size(), " values for ", k,
        " inputs");
  for (const double damping : {0.01, 0.1, 1.0}) {
    std::vector<double> h = hessian;
    regularise(h, k, damping);
    if (factor_upper(h, k, exec)) return inverse_upper(h, k, exec);
  }
  throw Error(Code::input, "[gptq] X^T X of the calibration is not positive definite: give other text");
}

QuantMatrix quantise_gptq(const View& w, const Grid& grid, const std::vector<double>& factor,
                          const std::vector<float>& importance, const kn::Exec& exec) {
  const int64_t rows = w.rows(), k = w.cols(), groups = (k + grid.group - 1) / grid.group;
  QuantMatrix m{.rows = rows, .cols = k, .group = grid.group, .bits = grid.bits, .q = {}, .scale = {}};
  m.q.resize(static_cast<size_t>(rows * k));
  m.scale.resize(static_cast<size_t>(rows * groups));
  kn::parallel_for(exec, (rows + kTileRows - 1) / kTileRows, [&](int64_t tile) {
    const int64_t begin = tile * kTileRows, end = std::min(rows, begin + kTileRows);
    std::vector<double> copy(w.as<float>() + begin * k, w.as<float>() + end * k);
    quantise_tile(copy, begin, end, grid, factor, importance, m);
  });
  return m;
}

}  // namespace llmctl
