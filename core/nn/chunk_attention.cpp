// SPDX-License-Identifier: Apache-2.0
#include "core/nn/chunk_attention.h"

#include "kernels/chunks.h"

namespace llmctl {

namespace {

void bring_together(Ctx& ctx, const ChunkedBatch& chunks, const View& qkv, int64_t heads, const View& y) {
  const int64_t rows = qkv.dim[0], width = y.dim[1] * y.dim[2];
  ArenaFrame frame(ctx.arena);
  const View all = ctx.arena.take(y.dtype, {chunks.all, y.dim[1], y.dim[2]});
  const View mine = reshaped(rows_of(reshaped(all, {chunks.all, width}), chunks.layout.rank * rows, rows),
                             {rows, y.dim[1], y.dim[2]});
  ctx.run(kn::CopyHeads{.x = qkv, .from = {}, .first = heads, .y = mine});
  if (!ctx.exec.plan)
    ctx.context.comm->all_gather(memory_of(mine), memory_of(all), even_offsets(all.bytes(), chunks.layout.ranks), "keys and values");
  ctx.run(kn::CopyHeads{.x = all, .from = chunks.order, .first = 0, .y = y});
}

}  // namespace

View keys_in_order(Ctx& ctx, const ChunkedBatch& chunks, const View& qkv, int64_t heads, int64_t kv_heads) {
  const View y = ctx.arena.take(qkv.dtype, {chunks.all, 2 * kv_heads, qkv.dim[2]});
  if (chunks.layout.ranks > 1)
    bring_together(ctx, chunks, qkv, heads, y);
  else
    ctx.run(kn::CopyHeads{.x = qkv, .from = chunks.order, .first = heads, .y = y});
  return y;
}

void attend_backward(Ctx& ctx, const ChunkedBatch& chunks, kn::AttnBwd op) {
  const int64_t n = 2 * op.kv_heads, d = op.qkv.dim[2];
  const bool alone = chunks.layout.ranks == 1;
  ArenaFrame frame(ctx.arena);
  const View roots = alone ? View{} : ctx.arena.take(DType::f32, {chunks.send.back(), n, d});
  {
    ArenaFrame own(ctx.arena);
    op.kv = keys_in_order(ctx, chunks, op.qkv, op.heads, op.kv_heads);
    op.sequences = chunks.sequences;
    op.terms = ctx.arena.take(DType::f32, {chunks.term_rows, n, d});
    op.work_rows = chunks.work_rows;
    op.work = ctx.arena.bytes(kn::attn_bwd_workspace(op.qkv.dtype, op.qkv.dim[0], op.heads, op.kv_heads, d, op.order,
                                                     op.work_rows));
    ctx.run(op);
    ctx.run(kn::JoinTerms{.terms = op.terms, .from = chunks.terms_of, .y = alone ? op.dqkv : roots,
                          .first = alone ? op.heads : 0});
  }
  if (alone) return;
  const View taken = ctx.arena.take(DType::f32, {chunks.recv.back(), n, d});
  if (!ctx.exec.plan)
    ctx.context.comm->all_to_all(memory_of(roots), in_bytes(chunks.send, n * d * 4), memory_of(taken), in_bytes(chunks.recv, n * d * 4),
                                 "gradients of keys and values");
  ctx.run(kn::JoinTerms{.terms = taken, .from = chunks.roots_of, .y = op.dqkv, .first = op.heads});
}

}  // namespace llmctl
