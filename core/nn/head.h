// SPDX-License-Identifier: Apache-2.0
// The LM head and its loss. Logits exist for a bounded number of rows at a time, and their gradient
// for a larger one: the head's weight gradient is one chain across the latter pieces of a part,
// paused in fp32 between them (NUMERICS rule 13).
#pragma once

#include "core/nn/decoder.h"

namespace llmctl {

// Of a pipeline the last rank has it: logits() and loss() do nothing at the others.
struct Head {
  WeightState* weight = nullptr;
  // Of this rank: its ids begin at `first`, its columns hold `leaves` leaves, and `vocab` of them count (of
  // tensor-parallel ranks the first `used` have any).
  int64_t vocab = 0, padded_vocab = 0, first = 0, used = 1;
  int leaves = 1;
  bool tied = false;
  int64_t logits_budget = int64_t{32} << 20;     // bytes of fp32 logits alive at once
  int64_t gradient_budget = int64_t{128} << 20;  // bytes of their gradient alive at once

  static Head of(const Decoder& decoder);
  // logits (R, padded_vocab) f32 from hidden (R,D).
  void logits(Ctx& ctx, const View& hidden, const View& out) const;
  // loss, lse (T) f32 per token from hidden (T,D) and targets (T) i32 (-1: none). lse may be empty.
  void loss(Ctx& ctx, const View& hidden, const View& targets, const View& loss) const;
  // Also dhidden (T,D) and the weight gradient of `scale` (a power of two) times the sum of losses.
  void loss_and_gradient(Ctx& ctx, const View& hidden, const View& targets, float scale, const View& loss,
                         const View& dhidden) const;

 private:
  // loss, lse (R) f32 of logits.
  void cross_entropy(Ctx& ctx, const View& logits, const View& targets, const View& loss, const View& lse) const;
  void logit_gradient(Ctx& ctx, const View& hidden, const View& targets, float scale, const View& loss,
                      const View& dlogits) const;
  void widen_gradient(Ctx& ctx) const;
};

}  // namespace llmctl
