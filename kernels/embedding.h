// SPDX-License-Identifier: Apache-2.0
// Token (and learned position) embeddings. ids and positions are checked by the caller on the host.
#pragma once

#include "kernels/op.h"

namespace llmctl::kn {

// out (T,D) = round(table[ids] (+ position_table[positions])). Tables of one dtype, f32 or bf16; out either.
// as_bf16: entries are rounded to bf16 before they are used, as tables in bf16 would hold them.
// bits: any-cpu+cuda
struct EmbedFwd {
  static constexpr const char* kName = "embed_fwd";
  View ids;    // (T) i32
  View table;  // (V,D)
  View positions, position_table;  // (T) i32, (P,D) or none
  View out;
  bool as_bf16 = false;
  void check() const;
};
KN_OP(EmbedFwd)

// grad[ids[t]] += dx[t]; every occurrence is a part of its own, converted to fixed point alone
// (NUMERICS rule 15). grad i64 (V,D), or f32 (chain in token order).
// bits: any-cpu+cuda
struct EmbedBwd {
  static constexpr const char* kName = "embed_bwd";
  View ids, dx, grad;
  int64_t parts = 1;
  View overflow;
  void check() const;
};
KN_OP(EmbedBwd)

// y (n) i64 = x (n) f32 in fixed point (fixed.h): what GemmDw's `only` left becomes a sum that others
// join. x and y must not overlap. bits: any-cpu+cuda
struct ToFixed {
  static constexpr const char* kName = "to_fixed";
  View x, y;
  void check() const;
};
KN_OP(ToFixed)

}  // namespace llmctl::kn
