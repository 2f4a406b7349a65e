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

// The same where each rank has the columns of some leaves. First each: of its columns, which begin at id
// `first` and of which `vocab` count (maybe none), leaves of columns / leaves; part (R,3): (max, sum) of its
// subtree, and the target's logit if it is among them. bits: any-cpu+cuda
struct CrossEntropyPart {
  static constexpr const char* kName = "cross_entropy_part";
  View logits;
  int64_t vocab = 0, first = 0;
  int leaves = 1;
  View targets;  // (R) i32
  View part;
  void check() const;
};
KN_OP(CrossEntropyPart)

// Then the top of the tree over the parts (n,R,3) of n ranks with `columns` each, of which the first `used`
// have any that count; the target's logit is its owner's. bits: any-cpu+cuda
struct CrossEntropyJoin {
  static constexpr const char* kName = "cross_entropy_join";
  View parts;
  int64_t used = 0, columns = 0;
  View targets;    // (R) i32
  View loss, lse;  // (R) f32
  void check() const;
};
KN_OP(CrossEntropyJoin)

// dlogits (R, columns) f32 or bf16 = round((exp(logit - lse) - [target]) * scale); rows with target
// -1 and padded columns are +0. The columns begin at id `first`. dlogits may be logits when both are f32.
// bits: any-cpu+cuda
struct CrossEntropyBwd {
  static constexpr const char* kName = "cross_entropy_bwd";
  View logits;
  int64_t vocab = 0, first = 0;
  View targets, lse;
  float scale = 1.0f;  // a power of two
  View dlogits;
  void check() const;
};
KN_OP(CrossEntropyBwd)

}  // namespace llmctl::kn
