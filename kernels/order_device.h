// SPDX-License-Identifier: Apache-2.0
// CUDA bodies have the order pair only: another one is refused, never summed as if it were pair.
#pragma once

#include "kernels/error.h"
#include "kernels/leaves.h"
#include "kernels/view.h"

namespace llmctl::kn {

inline void check_order(Bf16Order order, DType dtype, const char* op) {
  check(order == Bf16Order::pair || dtype != DType::bf16, Code::unsupported, "[", op, "] bf16_order ", name_of(order),
        " is not offered on CUDA: pair");
}

}  // namespace llmctl::kn
