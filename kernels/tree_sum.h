// SPDX-License-Identifier: Apache-2.0
// The top of a product's leaf tree whose subtrees other ranks computed (NUMERICS rules 3 and 4), and
// what gemm.h's epilogue does after the root.
#pragma once

#include "kernels/op.h"

namespace llmctl::kn {

// y (M,N) = round(tree(roots) + bias (N) + residual (M,N)): roots (n,M,N) f32, n a power of two up to 8,
// join as one balanced binary tree of neighbours in fp32; then bias and residual (each may be none, f32
// or bf16) and one rounding to y's dtype. y may be residual.
// bits: any-cpu+cuda
struct TreeSum {
  static constexpr const char* kName = "tree_sum";
  static constexpr int64_t kMostRoots = 8;
  View roots, bias, residual, y;
  void check() const;
};
KN_OP(TreeSum)

}  // namespace llmctl::kn
