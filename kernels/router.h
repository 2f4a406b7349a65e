// SPDX-License-Identifier: Apache-2.0
// The router of a mixture of experts: softmax over the experts, the k largest (Shazeer et al. 2017;
// Mixtral, Jiang et al. 2024; Qwen3-MoE), and the losses that keep experts busy (Switch, Fedus et al. 2022,
// equations 4 to 6, in transformers' form; the z-loss of ST-MoE, Zoph et al. 2022).
//
// Logits are f32, never rounded; so are probabilities and weights. With m the largest logit of a row,
// p_e = exp(l_e - m) / s, s = sum of exp(l_e - m) in 16 lanes and one tree. Rows are independent.
#pragma once

#include "kernels/op.h"

namespace llmctl::kn {

constexpr int64_t kMaxExperts = 1024;

// The k experts of largest logit of each row, ties to the lower index; index ascends within a row, so
// that slots stand in expert order. weight = p, with renormalise p / (sum of the chosen p, in slot order).
// bits: any-cpu+cuda
struct RouterFwd {
  static constexpr const char* kName = "router_fwd";
  View logits;         // (T,E) f32
  View index, weight;  // (T,k) i32 and f32
  bool renormalise = false;
  void check() const;
};
KN_OP(RouterFwd)

// dlogits from the gradient of weight. With r the renormalising sum (or 1), g_e = (dweight_e - sum of
// dweight weight) / r where e is chosen (dweight_e alone without renormalise), 0 elsewhere, plus
// balance * counts_e: dlogits_e = round(p_e ((g_e - sum of g p) + z (m + log s))).
// balance and z are the losses' factors for these rows, counts how often the unit chose each expert.
// bits: any-cpu+cuda
struct RouterBwd {
  static constexpr const char* kName = "router_bwd";
  View logits, index, weight;  // as above
  View dweight;                // (T,k) f32
  View counts;                 // (E) i64, or none
  float balance = 0, z = 0;
  bool renormalise = false;
  View dlogits;  // (T,E) f32 or bf16
  void check() const;
};
KN_OP(RouterBwd)

// What the losses need of a unit, summed over its rows and layers in integers, in any order: stats
// (2E + 1) i64 += {times each expert was chosen, sum of its p at 2^40, sum of (m + log s)^2 at 2^20}.
// bits: any-cpu+cuda
struct RouterStats {
  static constexpr const char* kName = "router_stats";
  View logits, index, stats;
  void check() const;
};
KN_OP(RouterStats)

}  // namespace llmctl::kn
