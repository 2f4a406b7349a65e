// SPDX-License-Identifier: Apache-2.0
// Softmax cross-entropy over rows of logits (R, columns) f32 of which the first `vocab` count
// (columns is vocab padded). Each vocabulary leaf makes (max, sum) from scratch, 16 lanes then
// sum16; pairs merge in the leaf tree (NUMERICS rule 12).
#pragma once

#include "kernels/leaves.h"
#include "kernels/op.h"

namespace llmctl::kn {

// lse[r] = log sum exp; loss[r] = lse - logits[target], 0 where target is -1.
// bits: any-cpu+cuda
struct CrossEntropyFwd {
  static constexpr const char* kName = "cross_entropy_fwd";
  View logits;
  int64_t vocab = 0;
  int leaves = 1;
  View targets;    // (R) i32
  View loss, lse;  // (R) f32
  void check() const;
};
KN_OP(CrossEntropyFwd)

// dlogits (R, columns) f32 or bf16 = round((exp(logit - lse) - [target]) * scale); rows with target
// -1 and padded columns are +0. dlogits may be logits when both are f32. bits: any-cpu+cuda
struct CrossEntropyBwd {
  static constexpr const char* kName = "cross_entropy_bwd";
  View logits;
  int64_t vocab = 0;
  View targets, lse;
  float scale = 1.0f;  // a power of two
  View dlogits;
  void check() const;
};
KN_OP(CrossEntropyBwd)

}  // namespace llmctl::kn
