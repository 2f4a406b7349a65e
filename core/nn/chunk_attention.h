// SPDX-License-Identifier: Apache-2.0
// Attention over sequences in chunks, on one rank or on those of a context-parallel group: K and V of all
// tokens are brought together before, and after the backward what a rank's chunks give to dK and dV passes to
// the ranks whose rows those are. Floating point only moves: each rank sends the fp32 root of its subtree of
// the chunks' sums, and the owner joins the roots (NUMERICS rules 11 and 17).
#pragma once

#include "core/base/comm.h"
#include "core/nn/chunks.h"
#include "core/nn/context.h"

namespace llmctl {

// (A, 2 kv_heads, D): the K and the V heads of all tokens in order, from the rows of qkv here. Collective
// over ctx.context. Taken from ctx.arena.
View keys_in_order(Ctx& ctx, const ChunkedBatch& chunks, const View& qkv, int64_t heads, int64_t kv_heads);

// op.dqkv from an op that names all but sequences, work and what stands with kv. Collective.
void attend_backward(Ctx& ctx, const ChunkedBatch& chunks, kn::AttnBwd op);

}  // namespace llmctl
