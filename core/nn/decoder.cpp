// SPDX-License-Identifier: Apache-2.0
#include "core/nn/decoder.h"

#include <fmt/format.h>

#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/nn/vocabulary.h"
#include "kernels/basic.h"
#include "kernels/embedding.h"
#include "kernels/math.h"

namespace llmctl {

BlockSaved Block::take_saved(Arena& arena, DType dtype, int64_t tokens, int64_t rows, int64_t hidden, bool training,
                             int64_t parts) const {
  BlockSaved s;
  s.mid = arena.take(dtype, {rows, hidden});
  if (training) {
    s.norm1 = norm1.take_saved(arena, rows);
    s.norm2 = norm2.take_saved(arena, rows);
  }
  s.attention = attention.take_saved(arena, dtype, tokens, training);
  s.mlp = std::visit([&](const auto& m) { return m.take_saved(arena, dtype, tokens, parts); }, mlp);
  return s;
}

void Block::take_norms(Arena& arena, DType dtype, int64_t rows, int64_t hidden, BlockSaved& s) const {
  s.h1 = arena.take(dtype, {rows, hidden});
  s.h2 = arena.take(dtype, {rows, hidden});
}

void Block::take_activation(Arena& arena, DType dtype, int64_t tokens, BlockSaved& s) const {
  std::visit([&](const auto& m) { m.take_activation(arena, dtype, tokens, s.mlp); }, mlp);
}

void Block::forward(Ctx& ctx, const TokenBatch& batch, const RopeTables& rope, int64_t layer, const View& x,
                    const View& y, const BlockSaved& s) const {
  norm1.forward(ctx, x, s.h1, s.norm1);
  attention.forward(ctx, batch, rope, layer, s.h1, x, s.mid, s.attention);
  norm2.forward(ctx, s.mid, s.h2, s.norm2);
  std::visit([&](const auto& m) { m.forward(ctx, s.h2, s.mid, y, s.mlp); }, mlp);
}

void Block::backward(Ctx& ctx, const TokenBatch& batch, const RopeTables& rope, const View& x, const View& dy,
                     const BlockSaved& s, const View& dx) const {
  ArenaFrame frame(ctx.arena);
  const View dh = ctx.arena.take(x.dtype, {x.dim[0], x.cols()});
  const View dmid = ctx.later ? ctx.lasting().take(x.dtype, {x.dim[0], x.cols()}) : dx;
  if (const Moe* moe = std::get_if<Moe>(&mlp)) {
    Ctx now = ctx;  // experts' gradients are not put off
    now.later = nullptr;
    moe->backward(now, s.h2, dy, s.mlp, dh);
  } else {
    std::get<Mlp>(mlp).backward(ctx, s.h2, dy, s.mlp, dh);
  }
  norm2.backward(ctx, dh, s.mid, s.norm2, dy, dmid);
  attention.backward(ctx, batch, rope, s.h1, dmid, s.attention, dh);
  norm1.backward(ctx, dh, x, s.norm1, dmid, dx);
}

Decoder::Decoder(const DecoderConfig& c, Parameters& p) : config_(c), dtype_(p.compute()), stages_(p.stages()) {
  std::unordered_map<std::string_view, WeightState*> named;  // a mixture has tens of thousands
  for (WeightState& w : p.all()) named[w.spec.name] = &w;
  auto find = [&](const std::string& name) {
    const auto it = named.find(name);
    return it == named.end() ? nullptr : it->second;
  };
  auto at = [&](const std::string& name) {
    WeightState* w = find(name);
    check(w != nullptr, Code::bug, "[decoder] no weight named ", name);
    return w;
  };
  embed_ = at("embed");
  if (c.learned_positions) positions_ = at("positions");
  head_ = c.tied ? embed_ : at("head");
  auto norm = [&](const std::string& name) { return Norm{at(name), find(name + ".bias"), c.norm_eps}; };
  auto linear = [&](const std::string& name) { return Linear{at(name), find(name + ".bias")}; };
  const int64_t tp = p.sharding().size(Axis::tp);  // heads and widths are those of a rank
  auto moe = [&](const std::string& base) {
    Moe m{linear(base + "router"), {}, c.moe.width / tp, c.moe.per_token, c.moe.renormalise,
          static_cast<double>(c.moe.experts) * c.moe.balance_coef, c.moe.z_coef, c.moe.layers_of(c.layers)};
    m.share = {p.sharding().size(Axis::ep), p.sharding().at(Axis::ep), c.moe.experts, c.moe.per_token, p.sharding().expert_capacity};
    for (int64_t e = 0; e < c.moe.experts; ++e)
      m.experts.push_back({linear(fmt::format("{}experts.{}.up", base, e)), linear(fmt::format("{}experts.{}.down", base, e))});
    if (c.moe.shared_width > 0) {
      m.shared = Mlp{linear(base + "shared.up"), linear(base + "shared.down"), MlpKind::swiglu, c.moe.shared_width / tp};
      m.shared_gate = linear(base + "shared.gate");
    }
    return m;
  };
  for (int64_t l = 0; l < c.layers; ++l) {
    const std::string base = fmt::format("blocks.{}.", l);
    Block b;
    b.norm1 = norm(base + "norm1");
    b.norm2 = norm(base + "norm2");
    b.attention = Attention{linear(base + "qkv"), linear(base + "output"), c.heads / tp, c.kv_heads / tp, c.head_dim};
    if (c.head_norms) b.attention.norms = {at(base + "q_norm"), at(base + "k_norm"), c.norm_eps};
    if (c.moe.in_layer(l))
      b.mlp = moe(base);
    else
      b.mlp = Mlp{linear(base + "up"), linear(base + "down"), c.mlp, c.intermediate / tp};
    blocks_.push_back(b);
  }
  final_norm_ = norm("final_norm");
}

void Decoder::make_rope(Arena& arena, int64_t positions, const kn::Exec& exec) {
  if (config_.learned_positions) return;
  const int64_t half = config_.head_dim / 2;
  rope_.cos = arena.take(DType::f32, {positions, half});
  rope_.sin = arena.take(DType::f32, {positions, half});
  if (exec.plan) return;
  const bool on_gpu = exec.device.kind != kn::DeviceKind::cpu;  // then by way of the host
  std::vector<float> tables(on_gpu ? static_cast<size_t>(2 * positions * half) : 0);
  float* cos = on_gpu ? tables.data() : rope_.cos.as<float>();
  float* sin = on_gpu ? tables.data() + positions * half : rope_.sin.as<float>();
  // Frequencies and angles are rounded to f32 as in Hugging Face's implementation.
  const double log_theta = kn::log64(config_.rope_theta);
  for (int64_t i = 0; i < half; ++i) {
    const double exponent = static_cast<double>(static_cast<float>(2 * i) / static_cast<float>(config_.head_dim));
    const float frequency = static_cast<float>(kn::exp64(-exponent * log_theta));
    for (int64_t p = 0; p < positions; ++p) {
      const double angle = static_cast<double>(static_cast<float>(p) * frequency);
      cos[p * half + i] = static_cast<float>(kn::cos64(angle));
      sin[p * half + i] = static_cast<float>(kn::sin64(angle));
    }
  }
  kn::upload(exec, rope_.cos.data, cos, rope_.cos.bytes());
  kn::upload(exec, rope_.sin.data, sin, rope_.sin.bytes());
  kn::wait(exec);
}

void Decoder::embed(Ctx& ctx, const TokenBatch& batch, const View& x) const {
  gather_weights(ctx, *embed_);
  ArenaFrame frame(ctx.arena);
  GatheredRows from{embed_->rows, batch.ids};
  if (embed_->slice.cut_rows) from = gather_embedding(ctx, *embed_, batch.ids);
  const RowRange here{ctx.share.begin, ctx.stream_rows(batch.tokens)};
  ctx.run(kn::EmbedFwd{.ids = elements_of(from.order, here), .table = from.rows,
                       .positions = positions_ ? elements_of(batch.positions, here) : View{},
                       .position_table = positions_ ? positions_->rows : View{}, .out = x,
                       .as_bf16 = dtype_ == DType::bf16});
}

void Decoder::forward_layers(Ctx& ctx, const TokenBatch& batch, const RowRange& layers, View& x, View& y) const {
  for (int64_t l = layers.begin; l < layers.begin + layers.count; ++l) {
    ArenaFrame block_frame(ctx.arena);
    const Block& block = blocks_[static_cast<size_t>(l)];
    BlockSaved saved = block.take_saved(ctx.arena, dtype_, batch.tokens, batch.tokens, config_.hidden, false);
    block.take_norms(ctx.arena, dtype_, batch.tokens, config_.hidden, saved);
    block.take_activation(ctx.arena, dtype_, batch.tokens, saved);
    gather_weights(ctx, *block.norm1.weight);
    block.forward(ctx, batch, rope_, l, x, y, saved);
    std::swap(x, y);
  }
}

void Decoder::forward(Ctx& ctx, const TokenBatch& batch, const View& hidden) const {
  ArenaFrame frame(ctx.arena);
  View x = ctx.arena.take(dtype_, {batch.tokens, config_.hidden});
  View y = ctx.arena.take(dtype_, {batch.tokens, config_.hidden});
  const RankGroup& pipe = ctx.pipeline;
  for (int s = 0; s < stages_.count(); ++s) {
    if (s % pipe.size != pipe.rank) continue;
    const bool first = s == 0, last = s + 1 == stages_.count();
    if (first)
      embed(ctx, batch, x);
    else if (!ctx.exec.plan)
      pipe.comm->recv(memory_of(x), (s - 1) % pipe.size, s - 1, "activations");
    forward_layers(ctx, batch, stages_.layers_of(s), x, y);
    if (last)
      final_norm_.forward(ctx, x, hidden, {});
    else if (!ctx.exec.plan)
      pipe.comm->send(memory_of(x), (s + 1) % pipe.size, s, "activations");
  }
}

DecoderSaved Decoder::forward_saving(Ctx& ctx, const TokenBatch& batch, Recompute recompute, const RowRange& layers,
                                     const View& x) const {
  DecoderSaved s;
  Arena& kept = ctx.kept();
  const int64_t t = batch.tokens, rows = ctx.stream_rows(t), d = config_.hidden, end = layers.begin + layers.count;
  const bool whole = recompute == Recompute::block, activation = whole || recompute == Recompute::pointwise;
  const auto parts = static_cast<int64_t>(ctx.parts.size());
  s.x.push_back(x);
  for (int64_t l = layers.begin; l < end; ++l) {
    const Block& block = blocks_[static_cast<size_t>(l)];
    s.x.push_back(kept.take(dtype_, {rows, d}));
    int64_t mark = ctx.arena.mark();
    BlockSaved saved = block.take_saved(whole ? ctx.arena : kept, dtype_, t, rows, d, true, parts);
    if (!activation) block.take_activation(kept, dtype_, t, saved);
    if (recompute == Recompute::none) block.take_norms(kept, dtype_, rows, d, saved);
    if (!whole) mark = ctx.arena.mark();
    if (activation) block.take_activation(ctx.arena, dtype_, t, saved);
    if (recompute != Recompute::none) block.take_norms(ctx.arena, dtype_, rows, d, saved);
    gather_weights(ctx, *block.norm1.weight);
    block.forward(ctx, batch, rope_, l, s.x[s.x.size() - 2], s.x.back(), saved);
    if (const Moe* moe = std::get_if<Moe>(&block.mlp)) moe->count(ctx, saved.mlp);
    ctx.arena.release(mark);
    if (!whole) s.blocks.push_back(saved);
  }
  if (end < config_.layers) return s;
  s.final_norm = final_norm_.take_saved(kept, rows);
  s.hidden = kept.take(dtype_, {rows, d});
  final_norm_.forward(ctx, s.x.back(), s.hidden, s.final_norm);
  return s;
}

void Decoder::backward(Ctx& ctx, const TokenBatch& batch, const DecoderSaved& s, const View& dhidden,
                       Recompute recompute, const RowRange& layers, const View& dx) const {
  const int64_t t = batch.tokens, rows = ctx.stream_rows(t), d = config_.hidden, end = layers.begin + layers.count;
  if (end == config_.layers) {
    final_norm_.backward(ctx, dhidden, s.x.back(), s.final_norm, {}, dx);
    reduce_gradients(ctx, *final_norm_.weight);
  }
  View dy = dx;
  const auto parts = static_cast<int64_t>(ctx.parts.size());
  if (ctx.later) {
    dy = ctx.lasting().take(dtype_, {rows, d});
    ctx.run(kn::Convert{.x = dx, .y = dy});
  }
  for (int64_t l = end - 1; l >= layers.begin; --l) {
    const auto at = static_cast<size_t>(l - layers.begin);
    const Block& block = blocks_[static_cast<size_t>(l)];
    const View& x = s.x[at];
    ArenaFrame frame(ctx.arena);
    const bool whole = recompute == Recompute::block, activation = whole || recompute == Recompute::pointwise;
    BlockSaved saved = whole ? block.take_saved(ctx.lasting(), dtype_, t, rows, d, true, parts) : s.blocks[at];
    if (recompute != Recompute::none) block.take_norms(ctx.lasting(), dtype_, rows, d, saved);
    if (activation) block.take_activation(ctx.lasting(), dtype_, t, saved);
    gather_weights(ctx, *block.norm1.weight);
    if (whole) {
      block.forward(ctx, batch, rope_, l, x, s.x[at + 1], saved);
    } else if (recompute != Recompute::none) {
      block.norm1.forward(ctx, x, saved.h1, saved.norm1);
      block.norm2.forward(ctx, saved.mid, saved.h2, saved.norm2);
      if (activation) std::visit([&](const auto& m) { m.activate(ctx, saved.mlp); }, block.mlp);
    }
    const View din = ctx.later && l > layers.begin ? ctx.lasting().take(dtype_, {rows, d}) : dx;
    block.backward(ctx, batch, rope_, x, dy, saved, din);
    dy = din;
    const bool put_off = ctx.later && !std::holds_alternative<Moe>(block.mlp);  // of experts some gradients are here, some to come
    if (!put_off) reduce_gradients(ctx, *block.norm1.weight);
    if (ctx.later) ctx.later->push_back([w = block.norm1.weight](Ctx& then) { reduce_gradients(then, *w); });
  }
}

void Decoder::backward_embed(Ctx& ctx, const View& ids, const View& positions, const View& dx_here) const {
  // Every occurrence of an id is a part (NUMERICS rule 15), beside the head's own when tied.
  const int64_t parts = ctx.parts_in_step * (ctx.part_tokens + 1);
  ArenaFrame frame(ctx.arena);
  const View dx = all_rows(ctx, dx_here, "embed");
  OwnRows own{ids, dx};
  if (embed_->slice.cut_rows) own = own_embedding_rows(ctx, *embed_, ids, dx);
  if (own.ids.size() > 0)
    ctx.run(kn::EmbedBwd{.ids = own.ids, .dx = own.dx, .grad = embed_->grad, .parts = parts, .overflow = embed_->overflow});
  if (positions_)
    ctx.run(kn::EmbedBwd{.ids = positions, .dx = dx, .grad = positions_->grad, .parts = parts,
                         .overflow = positions_->overflow});
  reduce_gradients(ctx, *embed_);
}

}  // namespace llmctl
