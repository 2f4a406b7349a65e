// SPDX-License-Identifier: Apache-2.0
// Every function of simd.h, and of what has a body per instruction set, over fixed patterns of bits.
#pragma once

#include <cstdint>

#include "kernels/op.h"

namespace llmctl::kn {

// What lanes.cpp writes: for function i of kLaneNames a hash of its results over corner cases and
// random patterns. A computed NaN counts as one value, its payload is not promised.
inline constexpr const char* kLaneNames[] = {
    "add", "sub", "mul", "div", "sqrt", "max", "min", "fma", "round_even", "to_int", "to_float", "iadd", "isub",
    "imul", "iand", "ior", "ixor", "shl", "shr", "sar", "lt", "le", "unordered", "ilt", "ieq", "any", "sum16",
    "max16", "dot_pair", "round_bf16", "load", "store", "load_u16", "store_u16", "load_i8", "exp", "log", "tanh",
    "erf", "silu", "add_fixed", "load_fixed", "row_sums"};
constexpr int kLaneFunctions = sizeof kLaneNames / sizeof *kLaneNames;

struct LaneHashes {
  static constexpr const char* kName = "lane_hashes";
  uint64_t* hashes;  // [kLaneFunctions]
  float* border;     // [2], products whose exact value is 2^-126 (1 - 2^-46): mul, fma
  void check() const {}
};
KN_OP(LaneHashes)

}  // namespace llmctl::kn
