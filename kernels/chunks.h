// SPDX-License-Identifier: Apache-2.0
// Rows of attention whose sequences are cut into chunks (NUMERICS rule 11): K and V in the order that the
// attention of whole documents wants, and the sums of what chunks give to dK and dV.
#pragma once

#include "kernels/op.h"

namespace llmctl::kn {

// Heads [first, first + n) of rows of x (T, heads, D) to y (R, n, D): row r is row from[r], from (R) i32, or
// without it row r. x and y of one dtype. bits: any-cpu+cuda
struct CopyHeads {
  static constexpr const char* kName = "copy_heads";
  View x, from;
  int64_t first = 0;
  View y;
  void check() const;
};
KN_OP(CopyHeads)

// Row t of y (T, heads, D), heads [first, first + n) of it: the balanced binary tree, in order, of rows from[t]
// of terms (R, n, D) f32; from (T,C) i32, C a power of two up to 64, -1: +0. One rounding to y's dtype, f32 or
// bf16; -0 counts as +0. bits: any-cpu+cuda
struct JoinTerms {
  static constexpr const char* kName = "join_terms";
  static constexpr int64_t kMost = 64;
  View terms, from, y;
  int64_t first = 0;
  void check() const;
};
KN_OP(JoinTerms)

}  // namespace llmctl::kn
