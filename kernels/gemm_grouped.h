// SPDX-License-Identifier: Apache-2.0
// Products of consecutive runs of rows, each with a weight of its own: the experts of a mixture.
#pragma once

#include "kernels/gemm.h"

namespace llmctl::kn {

constexpr int64_t kMaxGroups = 1024;

// For every e, Gemm of rows [starts[e], starts[e + 1]) of x (R,K) with w[e] to the same rows of y (R,N):
// the bits of that Gemm. Weights of runs without rows are not read. `w` is an array in host memory of as
// many panels as there are runs. bits: any-isa (CUDA: backend)
struct GroupedGemm {
  static constexpr const char* kName = "gemm_grouped";
  View x;
  const View* w = nullptr;
  View starts;  // (E + 1) i32
  View y;
  int64_t n = 0;
  Leaves leaves;
  Bf16Order order = Bf16Order::pair;
  void check() const;
  // The product of rows [begin, end) with weight e.
  Gemm part(int64_t e, int64_t begin, int64_t end) const;
};
KN_OP(GroupedGemm)

}  // namespace llmctl::kn
