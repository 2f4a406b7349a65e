// SPDX-License-Identifier: Apache-2.0
// Where a mixture's rows are computed (expert parallel: GShard, Lepikhin et al. 2021). Ranks of the group
// ctx.experts compute different units; each holds a run of every layer's experts, and gets the rows of all
// ranks that chose them. Rows of T tokens are T k at the rank of their tokens, sorted by expert
// (kernels/experts.h); at the rank that holds the experts they lie by (rank they came from, expert, token),
// so that they travel as they lie, and those of one part of an expert's gradient are one run.
//
// Bytes only move: counts of rows once a layer, then rows of hidden size, twice forward (there, and what
// experts made of them back) and three times backward (gradients there, inputs there again, gradients back).
//
// Room is planned for `capacity` times the even share T k, or for all that can come. Nothing is ever dropped:
// where more come, every rank of the group knows from the counts, none is sent, and what that pass makes is of
// no use; Ctx::expert_load says so, and the step is refused by all ranks together.
#pragma once

#include "core/nn/mlp.h"

namespace llmctl {

struct ExpertShare {
  int ranks = 1, rank = 0;
  int64_t experts = 0, per_token = 0;
  double capacity = 0;

  RowRange held() const { return experts_held(experts, ranks, rank); }
  // Rows there is room for, of passes of so many tokens at each rank.
  int64_t room(int64_t tokens) const;
  // Memory of what is agreed on, for a pass of so many parts.
  void take_saved(Arena& arena, int64_t parts, MlpSaved& saved) const;
  // After the sort: which rows come. Collective.
  void agree(const Ctx& ctx, const MlpSaved& saved) const;
  // The first rows of v (room, ...), as many as came; planning, all.
  View filled(const Ctx& ctx, const View& v, const MlpSaved& saved) const;
  // Memory for what comes of `rows` (T k, D): rows itself where one rank holds all experts.
  View place(const Ctx& ctx, const View& rows, const MlpSaved& saved) const;
  // Between rows (T k, D) and their place. Collective; nothing where they are one.
  void to_holders(const Ctx& ctx, const View& rows, const View& place, const MlpSaved& saved) const;
  void to_tokens(const Ctx& ctx, const View& place, const View& rows, const MlpSaved& saved) const;
  // body(expert, rows) of runs that are not empty; planning, the most rows there can be of one.
  using Body = std::function<void(int64_t expert, const RowRange& rows)>;
  void each_run(const Ctx& ctx, const MlpSaved& saved, const Body& body) const;
  // The same for the parts of each expert's gradient, empty ones too.
  void each_part(const Ctx& ctx, const MlpSaved& saved, const Body& body) const;

 private:
  int64_t counted(const MlpSaved& saved, int from, const RowRange& parts, const RowRange& of) const;
  std::vector<int64_t> sent(const MlpSaved& saved, int64_t row_bytes) const;
  std::vector<int64_t> received(const MlpSaved& saved, int64_t row_bytes) const;
  void set_runs(const MlpSaved& saved) const;
};

// Error{input} where a load (Ctx::expert_load) was too large.
void check_expert_load(double load);

}  // namespace llmctl
