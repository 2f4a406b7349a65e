// SPDX-License-Identifier: Apache-2.0
// The machine's arithmetic limit on registers alone: FMAs (f32), pair or tile products (bf16 by its
// order), byte products (i8, by tiles where there are any).
#pragma once

#include "kernels/leaves.h"
#include "kernels/op.h"

namespace llmctl::kn {

// Each of flops.size() tasks runs `iterations` rounds of independent chains and adds the operations
// it did to its place of flops (i64); sink (tasks) f32 keeps them from being optimised away. The
// caller times run(). bits: none
struct PeakProbe {
  static constexpr const char* kName = "peak_probe";
  DType dtype = DType::f32;
  int64_t iterations = 1;
  View sink, flops;
  Bf16Order order = Bf16Order::pair;
  void check() const;
};
KN_OP(PeakProbe)

}  // namespace llmctl::kn
