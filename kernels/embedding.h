// SPDX-License-Identifier: Apache-2.0
// Token (and learned position) embeddings. ids and positions are checked by the caller on the host.
#pragma once

#include "kernels/op.h"

namespace llmctl::kn {

// out (T,D) = round(table[ids] (+ position_table[positions])). Tables of one dtype, f32 or bf16; out either.
// bits: any-cpu+cuda
struct EmbedFwd {
  static constexpr const char* kName = "embed_fwd";
  View ids;    // (T) i32
  View table;  // (V,D)
  View positions, position_table;  // (T) i32, (P,D) or none
  View out;
  void check() const;
};
KN_OP(EmbedFwd)

// grad[ids[t]] += dx[t]; every occurrence is a part of its own, converted to fixed point alone
// (NUMERICS rule 15). grad i64 (V,D), or f32 (chain in token order). bits: any-cpu+cuda
struct EmbedBwd {
  static constexpr const char* kName = "embed_bwd";
  View ids, dx, grad;
  int64_t parts = 1;
  View overflow;
  void check() const;
};
KN_OP(EmbedBwd)

}  // namespace llmctl::kn
