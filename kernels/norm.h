// SPDX-License-Identifier: Apache-2.0
// Row normalisation. Row sums: 16 lanes, element i in lane i mod 16, then sum16's tree.
// Weight gradients: one f32 chain over tokens in order per column, then into grad (i64 fixed point
// or f32 +=), see fixed.h. A chain may come in pieces of rows: resume loads it from `chain` (f32 (D)),
// pause stores it there instead.
#pragma once

#include "kernels/op.h"

namespace llmctl::kn {

// y = (x * rstd) * w, rstd = 1 / sqrt(mean(x^2) + eps) (Zhang & Sennrich 2019, as in Llama).
// x, y (T,D), w (D), f32 or bf16 each; rstd (T) f32 or none. One rounding. bits: any-cpu+cuda
struct RmsNormFwd {
  static constexpr const char* kName = "rmsnorm_fwd";
  View x, w, y, rstd;
  float eps = 1e-5f;
  void check() const;
};
KN_OP(RmsNormFwd)

// dx = round(dresidual + rstd * (dy w - xhat * mean(dy w xhat))), xhat = x * rstd; dresidual (T,D)
// in dx's dtype or none, may be dx; the outer sum is one FMA. bits: any-cpu+cuda
struct RmsNormBwd {
  static constexpr const char* kName = "rmsnorm_bwd";
  View dy, x, w, rstd, dresidual, dx;
  View grad;  // (D) of w
  int64_t parts = 1;
  View overflow;  // i32 (1)
  View chain = {};
  bool resume = false, pause = false;
  void check() const;
};
KN_OP(RmsNormBwd)

// y = fma((x - mean) * rstd, w, b) (Ba et al. 2016); variance as mean((x-mean)^2) in a second pass.
// mean, rstd (T) f32 or none. bits: any-cpu+cuda
struct LayerNormFwd {
  static constexpr const char* kName = "layernorm_fwd";
  View x, w, b, y, mean, rstd;
  float eps = 1e-5f;
  void check() const;
};
KN_OP(LayerNormFwd)

// dx = round(dresidual + rstd * ((dy w - mean(dy w)) - xhat * mean(dy w xhat))),
// xhat = (x - mean) * rstd; dresidual as above. bits: any-cpu+cuda
struct LayerNormBwd {
  static constexpr const char* kName = "layernorm_bwd";
  View dy, x, w, mean, rstd, dresidual, dx;
  View grad_w, grad_b;  // (D)
  int64_t parts = 1;
  View overflow;
  View chain_w = {}, chain_b = {};
  bool resume = false, pause = false;
  void check() const;
};
KN_OP(LayerNormBwd)

}  // namespace llmctl::kn
