// SPDX-License-Identifier: Apache-2.0
// An embedding whose rows lie with tensor-parallel ranks, each a run of the vocabulary (Shoeybi et al. 2019):
// a token's row comes from its owner and is never summed with zeros (NUMERICS rule 12).
#pragma once

#include "core/nn/context.h"
#include "core/nn/parameters.h"

namespace llmctl {

// rows (T,D) in the table's dtype and order (T) i32, in ctx.arena: row order[t] is that of ids[t].
struct GatheredRows {
  View rows, order;
};
GatheredRows gather_embedding(Ctx& ctx, const WeightState& table, const View& ids);

// The ids whose rows are here, less the first of these, and the rows of dx (T,D) that belong to them.
struct OwnRows {
  View ids, dx;
};
OwnRows own_embedding_rows(Ctx& ctx, const WeightState& table, const View& ids, const View& dx);

}  // namespace llmctl
