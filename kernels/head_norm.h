// SPDX-License-Identifier: Apache-2.0
// RMSNorm of every query and key head before the rotation, with one weight for all query heads and one for
// all key heads (Qwen3; Dehghani et al. 2023). Row sums and rounding as RmsNormFwd and RmsNormBwd (norm.h);
// value heads pass as they are.
#pragma once

#include "kernels/op.h"

namespace llmctl::kn {

// x, y (T, heads + 2 kv_heads, D); y may be x. bits: any-cpu+cuda
struct HeadNormFwd {
  static constexpr const char* kName = "head_norm_fwd";
  View x, w_query, w_key;  // (D), f32 or bf16
  int64_t heads = 0, kv_heads = 0;
  View y;
  View rstd;  // (T, heads + kv_heads) f32, or none
  float eps = 1e-6f;
  void check() const;
};
KN_OP(HeadNormFwd)

// dx may be dy. A weight's gradient is one f32 chain over its heads of each token in order, then into
// grad (i64 fixed point or f32 +=), or resumed from and paused in chain (f32 (D)), as norm.h has it.
// bits: any-cpu+cuda
struct HeadNormBwd {
  static constexpr const char* kName = "head_norm_bwd";
  View dy, x, w_query, w_key, rstd;
  int64_t heads = 0, kv_heads = 0;
  View dx;
  View grad_query, grad_key;
  int64_t parts = 1;
  View overflow_query, overflow_key;  // i32 (1)
  View chain_query = {}, chain_key = {};
  bool resume = false, pause = false;
  void check() const;
};
KN_OP(HeadNormBwd)

}  // namespace llmctl::kn
