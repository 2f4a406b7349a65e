// SPDX-License-Identifier: Apache-2.0
#include "core/nn/attention.h"

#include <cmath>

namespace llmctl {

float Attention::scale() const { return 1.0f / std::sqrt(static_cast<float>(head_dim)); }

AttentionSaved Attention::take_saved(Arena& arena, DType dtype, int64_t tokens, bool training) const {
  AttentionSaved s;
  s.qkv = arena.take(dtype, {tokens, heads + 2 * kv_heads, head_dim});
  s.out = arena.take(dtype, {tokens, heads, head_dim});
  if (training) s.lse = arena.take(DType::f32, {tokens, heads});
  return s;
}

void Attention::attend(Ctx& ctx, const TokenBatch& batch, const AttentionGroup& group, const kn::KvPages& pages,
                       const AttentionSaved& saved) const {
  const RowRange &rows = group.rows, &seq = group.sequences;
  const int64_t width = (heads + 2 * kv_heads) * head_dim;
  const View flat = reshaped(saved.qkv, {batch.tokens, width});
  ctx.run(kn::KvWrite{.qkv = reshaped(rows_of(flat, rows.begin, rows.count),
                                      {rows.count, heads + 2 * kv_heads, head_dim}),
                      .heads = heads,
                      .kv_heads = kv_heads,
                      .slots = elements_of(batch.slots, rows),
                      .kv = pages});
  ctx.run(kn::AttnFwd{.qkv = saved.qkv,
                      .heads = heads,
                      .kv_heads = kv_heads,
                      .kv = pages,
                      .sequences = rows_of(batch.sequences, seq.begin, seq.count),
                      .page_table = batch.page_table,
                      .scale = scale(),
                      .out = saved.out,
                      .lse = saved.lse,
                      .order = qkv.weight->spec.order});
}

void Attention::forward(Ctx& ctx, const TokenBatch& batch, const RopeTables& rope, int64_t layer, const View& h,
                        const View& residual, const View& y, const AttentionSaved& saved) const {
  const int64_t t = batch.tokens;
  qkv.forward(ctx, h, reshaped(saved.qkv, {t, (heads + 2 * kv_heads) * head_dim}));
  if (rope.cos)
    ctx.run(kn::Rope{.x = saved.qkv, .y = saved.qkv, .positions = batch.positions, .cos = rope.cos,
                     .sin = rope.sin, .rotated = heads + kv_heads});
  for (const AttentionGroup& group : batch.groups) {
    if (batch.cache) {
      attend(ctx, batch, group, (*batch.cache)[static_cast<size_t>(layer)], saved);
      continue;
    }
    ArenaFrame frame(ctx.arena);
    const int64_t page = kn::kv_page_elements(h.dtype, head_dim);
    kn::KvPages pages{ctx.arena.take(h.dtype, {batch.pages, kv_heads, page}),
                      ctx.arena.take(h.dtype, {batch.pages, kv_heads, page})};
    attend(ctx, batch, group, pages, saved);
  }
  output.forward(ctx, reshaped(saved.out, {t, heads * head_dim}), y, residual);
}

void Attention::backward(Ctx& ctx, const TokenBatch& batch, const RopeTables& rope, const View& h, const View& dy,
                         const AttentionSaved& saved, const View& dh) const {
  const int64_t t = batch.tokens, width = (heads + 2 * kv_heads) * head_dim;
  ArenaFrame frame(ctx.arena);
  const View dout = ctx.arena.take(h.dtype, {t, heads, head_dim});
  const View dqkv = ctx.arena.take(h.dtype, {t, heads + 2 * kv_heads, head_dim});
  output.backward_input(ctx, dy, reshaped(dout, {t, heads * head_dim}));
  output.backward_weight(ctx, dy, reshaped(saved.out, {t, heads * head_dim}));
  {
    ArenaFrame work(ctx.arena);
    const kn::Bf16Order order = qkv.weight->spec.order;
    ctx.run(kn::AttnBwd{.qkv = saved.qkv,
                        .heads = heads,
                        .kv_heads = kv_heads,
                        .sequences = batch.sequences,
                        .scale = scale(),
                        .out = saved.out,
                        .lse = saved.lse,
                        .dout = dout,
                        .dqkv = dqkv,
                        .work = ctx.arena.bytes(
                            kn::attn_bwd_workspace(h.dtype, t, heads, kv_heads, head_dim, order)),
                        .order = order});
  }
  if (rope.cos)
    ctx.run(kn::Rope{.x = dqkv, .y = dqkv, .positions = batch.positions, .cos = rope.cos, .sin = rope.sin,
                     .rotated = heads + kv_heads, .inverse = true});
  qkv.backward_input(ctx, reshaped(dqkv, {t, width}), dh);
  qkv.backward_weight(ctx, reshaped(dqkv, {t, width}), h);
}

}  // namespace llmctl
