// SPDX-License-Identifier: Apache-2.0
#include "core/train/muon.h"

#include <algorithm>
#include <cmath>

#include "core/train/optimizer.h"
#include "kernels/gemm.h"
#include "kernels/muon.h"
#include "kernels/optimizer.h"

namespace llmctl {
namespace {

// With Z = c^(1/4) X the step is Z = a Z + (b/sqrt(c) A + A A) Z: two products need no factor.
constexpr float kA = 3.4445f, kB = -3.3501555f, kIn = 1.1938622f, kOut = 0.83761760f;
constexpr double kSmallestNorm = 1e-7;

// y = x op(w) + beta z; op is the transpose, or with `plain` nothing. y may be z, and w before it.
struct Product {
  View x, w, y, z = {};
  float beta = 0;
  bool plain = false;
};

void multiply(const MuonScratch& s, const Product& p, const kn::Exec& exec) {
  const int64_t k = p.x.cols(), n = p.y.cols();
  const View panels(s.panels.data, DType::f32, {kn::panel_elements(DType::f32, k, n)});
  kn::run(kn::PackPanels{.src = p.w, .panels = p.plain ? View{} : panels, .panels_t = p.plain ? panels : View{}}, exec);
  if (p.z) kn::run(kn::ScaledCopy{.x = p.z, .y = p.y, .scale = p.beta}, exec);
  kn::run(kn::Gemm{.x = p.x, .w = panels, .y = p.y, .n = n, .leaves = kn::leaves_of(k),
                   .residual = p.z ? p.y : View{}}, exec);
}

double frobenius(const MuonScratch& s, const kn::Exec& exec) {
  kn::run(kn::GradNorm{.grad = s.update, .out = s.norms}, exec);
  return exec.plan ? 1.0 : std::sqrt(tree_sum(fetched<double>(exec, s.norms).data(), s.norms.size()));
}

}  // namespace

MuonScratch muon_scratch(Arena& arena, int64_t rows, int64_t cols) {
  const int64_t r = std::min(rows, cols), c = std::max(rows, cols);
  MuonScratch s;
  s.update = arena.take(DType::f32, {rows, cols});
  s.x = rows > cols ? arena.take(DType::f32, {r, c}) : s.update;
  s.gram = arena.take(DType::f32, {r, r});
  s.poly = arena.take(DType::f32, {r, r});
  s.panels = arena.take(DType::f32, {std::max(kn::panel_elements(DType::f32, c, r),
                                              kn::panel_elements(DType::f32, r, c))});
  s.norms = arena.take(DType::i64, {kn::tiles_of(rows, cols)});
  return s;
}

float orthogonalize(const MuonScratch& s, int64_t steps, const kn::Exec& exec) {
  const bool tall = s.update.rows() > s.update.cols();
  const double norm = std::max(frobenius(s, exec), kSmallestNorm);
  const float in = static_cast<float>(static_cast<double>(kIn) / norm);
  kn::run(kn::ScaledCopy{.x = s.update, .y = s.x, .scale = in, .transpose = tall}, exec);
  for (int64_t i = 0; i < steps; ++i) {
    multiply(s, {.x = s.x, .w = s.x, .y = s.gram}, exec);
    multiply(s, {.x = s.gram, .w = s.gram, .y = s.poly, .z = s.gram, .beta = kB}, exec);  // gram^T is gram
    multiply(s, {.x = s.poly, .w = s.x, .y = s.x, .z = s.x, .beta = kA, .plain = true}, exec);
  }
  if (tall) kn::run(kn::ScaledCopy{.x = s.x, .y = s.update, .transpose = true}, exec);
  return kOut;
}

}  // namespace llmctl
