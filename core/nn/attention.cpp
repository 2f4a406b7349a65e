// SPDX-License-Identifier: Apache-2.0
#include "core/nn/attention.h"

#include <cmath>

#include "core/nn/chunk_attention.h"
#include "core/nn/head_norms.h"

namespace llmctl {

float Attention::scale() const { return 1.0f / std::sqrt(static_cast<float>(head_dim)); }

AttentionSaved Attention::take_saved(Arena& arena, DType dtype, int64_t tokens, bool training) const {
  AttentionSaved s;
  s.qkv = arena.take(dtype, {tokens, heads + 2 * kv_heads, head_dim});
  s.out = arena.take(dtype, {tokens, heads, head_dim});
  if (training) s.lse = arena.take(DType::f32, {tokens, heads});
  if (training && norms.query) {
    s.raw = arena.take(dtype, {tokens, heads + 2 * kv_heads, head_dim});
    s.rstd = arena.take(DType::f32, {tokens, heads + kv_heads});
  }
  return s;
}

void Attention::attend(Ctx& ctx, const TokenBatch& batch, const AttentionGroup& group, const kn::KvPages& pages,
                       const AttentionSaved& saved, const View& kv) const {
  const RowRange &rows = group.rows, &seq = group.sequences;
  const View& from = kv ? kv : saved.qkv;
  const View flat = reshaped(from, {from.dim[0], from.dim[1] * head_dim});
  ctx.run(kn::KvWrite{.qkv = reshaped(rows_of(flat, rows.begin, rows.count), {rows.count, from.dim[1], head_dim}),
                      .heads = from.dim[1] - 2 * kv_heads,
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

void Attention::norm_heads(Ctx& ctx, const View& raw, const AttentionSaved& saved) const {
  ctx.run(kn::HeadNormFwd{.x = raw, .w_query = norms.query->rows, .w_key = norms.key->rows, .heads = heads,
                          .kv_heads = kv_heads, .y = saved.qkv, .rstd = saved.rstd, .eps = norms.eps});
}

void Attention::norm_heads_backward(Ctx& ctx, const AttentionSaved& saved, const View& dqkv) const {
  const int64_t all = heads + 2 * kv_heads, normed = heads + kv_heads;
  for (const RowRange& part : ctx.parts) {
    const auto tokens_of = [&](const View& v, int64_t width) {
      return rows_of(reshaped(v, {v.dim[0], width}), part.begin, part.count);
    };
    const auto heads_of = [&](const View& v) {
      return reshaped(tokens_of(v, all * head_dim), {part.count, all, head_dim});
    };
    head_norm_backward(ctx, {.dy = heads_of(dqkv), .x = heads_of(saved.raw), .w_query = norms.query->rows,
                            .w_key = norms.key->rows, .rstd = tokens_of(saved.rstd, normed), .heads = heads,
                            .kv_heads = kv_heads, .dx = heads_of(dqkv), .grad_query = norms.query->grad,
                            .grad_key = norms.key->grad, .parts = ctx.parts_in_step,
                            .overflow_query = norms.query->overflow, .overflow_key = norms.key->overflow,
                            .chain_query = norms.query->chain, .chain_key = norms.key->chain,
                            .resume = ctx.resume, .pause = ctx.pause});
  }
}

void Attention::forward(Ctx& ctx, const TokenBatch& batch, const RopeTables& rope, int64_t layer, const View& h_here,
                        const View& residual, const View& y, const AttentionSaved& saved) const {
  const int64_t t = batch.tokens;
  ArenaFrame frame(ctx.arena);
  const View h = all_rows(ctx, h_here, "attention");
  const View raw = saved.raw ? saved.raw : saved.qkv;
  qkv.forward(ctx, h, reshaped(raw, {t, (heads + 2 * kv_heads) * head_dim}));
  if (norms.query) norm_heads(ctx, raw, saved);
  if (rope.cos)
    ctx.run(kn::Rope{.x = saved.qkv, .y = saved.qkv, .positions = batch.positions, .cos = rope.cos,
                     .sin = rope.sin, .rotated = heads + kv_heads});
  ArenaFrame kv_frame(ctx.arena);
  const View kv = batch.chunks ? keys_in_order(ctx, *batch.chunks, saved.qkv, heads, kv_heads) : View{};
  for (const AttentionGroup& group : batch.groups) {
    if (batch.cache) {
      attend(ctx, batch, group, (*batch.cache)[static_cast<size_t>(layer)], saved, {});
      continue;
    }
    ArenaFrame group_frame(ctx.arena);
    const int64_t page = kn::kv_page_elements(h.dtype, head_dim);
    kn::KvPages pages{ctx.arena.take(h.dtype, {batch.pages, kv_heads, page}),
                      ctx.arena.take(h.dtype, {batch.pages, kv_heads, page})};
    attend(ctx, batch, group, pages, saved, kv);
  }
  output.forward(ctx, reshaped(saved.out, {t, heads * head_dim}), y, residual);
}

void Attention::backward(Ctx& ctx, const TokenBatch& batch, const RopeTables& rope, const View& h_here,
                         const View& dy_here, const AttentionSaved& saved, const View& dh) const {
  const int64_t t = batch.tokens, width = (heads + 2 * kv_heads) * head_dim;
  ArenaFrame frame(ctx.arena);
  const View h = all_rows(ctx, h_here, "attention"), dy = all_rows(ctx, dy_here, "attention");
  const View dout = ctx.arena.take(h.dtype, {t, heads, head_dim});
  const View dqkv = ctx.lasting().take(h.dtype, {t, heads + 2 * kv_heads, head_dim});
  output.backward_input(ctx, dy, reshaped(dout, {t, heads * head_dim}));
  output.backward_weight(ctx, dy, reshaped(saved.out, {t, heads * head_dim}));
  {
    ArenaFrame work(ctx.arena);
    kn::AttnBwd op{.qkv = saved.qkv,
                   .heads = heads,
                   .kv_heads = kv_heads,
                   .sequences = batch.sequences,
                   .scale = scale(),
                   .out = saved.out,
                   .lse = saved.lse,
                   .dout = dout,
                   .dqkv = dqkv,
                   .order = qkv.weight->spec.order};
    if (batch.chunks) {
      attend_backward(ctx, *batch.chunks, op);
    } else {
      op.work = ctx.arena.bytes(kn::attn_bwd_workspace(h.dtype, t, heads, kv_heads, head_dim, op.order));
      ctx.run(op);
    }
  }
  if (rope.cos)
    ctx.run(kn::Rope{.x = dqkv, .y = dqkv, .positions = batch.positions, .cos = rope.cos, .sin = rope.sin,
                     .rotated = heads + kv_heads, .inverse = true});
  if (norms.query) norm_heads_backward(ctx, saved, dqkv);
  qkv.backward_input(ctx, reshaped(dqkv, {t, width}), dh);
  qkv.backward_weight(ctx, reshaped(dqkv, {t, width}), h);
}

}  // namespace llmctl
