// SPDX-License-Identifier: Apache-2.0
// Tokens to experts and back. Routing gives every token k slots, in ascending order of expert
// (router.h); rows are the T k (token, slot) pairs sorted by expert, within an expert by token: (unit,
// position) order (NUMERICS rule 20). Nothing is dropped.
#pragma once

#include "kernels/op.h"

namespace llmctl::kn {

// The counting sort: rows of expert e are [starts[e], starts[e + 1]). bits: any-cpu+cuda
struct SortByExpert {
  static constexpr const char* kName = "sort_by_expert";
  View index;   // (T,k) i32, within [0, E)
  View starts;  // (E + 1) i32
  View token;   // (T k) i32: of each row, ascending within an expert
  View place;   // (T,k) i32: the row of each slot
  void check() const;
};
KN_OP(SortByExpert)

// y (T,D) = round(sum over the slots of weight * x[place] + residual): one chain of FMAs from +0 in slot
// order, which is expert order, then residual, one rounding. Without weight the chain adds. x (T k, D)
// and residual f32 or bf16; y may be residual. bits: any-cpu+cuda
struct CombineExperts {
  static constexpr const char* kName = "combine_experts";
  View x, place;
  View weight;    // (T,k) f32 or none
  View residual;  // (T,D) or none
  View y;
  void check() const;
};
KN_OP(CombineExperts)

// The gradients of its x and weight: dx[place] (T k, D) = round(weight * dy), dweight (T,k) f32 =
// rowsum(dy x[place]), 16 lanes and one tree. bits: any-cpu+cuda
struct CombineExpertsBwd {
  static constexpr const char* kName = "combine_experts_bwd";
  View dy, x, place, weight;
  View dx, dweight;
  void check() const;
};
KN_OP(CombineExpertsBwd)

// A slot more for every token, behind the others: a shared expert that all tokens have (Qwen2-MoE), whose T
// rows stand behind the T k of the others. place_all = place | T k + t, weight_all = weight | sigmoid(gate).
// bits: any-cpu+cuda
struct AddSharedSlot {
  static constexpr const char* kName = "add_shared_slot";
  View place, weight;          // (T,k) i32 and f32
  View gate;                   // (T,1) f32
  View place_all, weight_all;  // (T,k + 1)
  void check() const;
};
KN_OP(AddSharedSlot)

// dweight (T,k) f32 and dgate (T,1) f32 or bf16 = round(dw s (1 - s)) from the gradient of weight_all, in
// which s is the last of each row. bits: any-cpu+cuda
struct AddSharedSlotBwd {
  static constexpr const char* kName = "add_shared_slot_bwd";
  View weight_all, dweight_all;  // (T,k + 1) f32
  View dweight, dgate;
  void check() const;
};
KN_OP(AddSharedSlotBwd)

}  // namespace llmctl::kn
