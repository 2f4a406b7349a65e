// SPDX-License-Identifier: Apache-2.0
#include "core/nn/head.h"

#include <algorithm>

#include "kernels/basic.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"

namespace llmctl {

namespace {
bool elsewhere(const Ctx& ctx) { return ctx.pipeline.rank + 1 < ctx.pipeline.size; }
}  // namespace

Head Head::of(const Decoder& decoder) {
  const DecoderConfig& c = decoder.config();
  Head h{.weight = &decoder.head(), .vocab = c.vocab, .padded_vocab = c.padded_vocab(), .leaves = c.leaves_vocab, .tied = c.tied};
  if (const Slice& s = h.weight->slice; s.cut_rows) {
    h.first = s.rows.front().begin, h.padded_vocab = s.rows.front().count;
    h.leaves = s.backward.count;
    h.vocab = std::clamp<int64_t>(c.vocab - h.first, 0, h.padded_vocab);
    h.used = (c.vocab + h.padded_vocab - 1) / h.padded_vocab;
  }
  return h;
}

void Head::cross_entropy(Ctx& ctx, const View& z, const View& targets, const View& loss, const View& lse) const {
  if (!weight->slice.cut_rows)
    return ctx.run(kn::CrossEntropyFwd{.logits = z, .vocab = vocab, .leaves = leaves, .targets = targets, .loss = loss, .lse = lse});
  const RankGroup& group = ctx.tensor;
  const View parts = ctx.arena.take(DType::f32, {group.size, z.rows(), 3});
  const int64_t bytes = z.rows() * 12;
  const View mine(parts.as<std::byte>() + group.rank * bytes, DType::f32, {z.rows(), 3});
  ctx.run(kn::CrossEntropyPart{.logits = z, .vocab = vocab, .first = first, .leaves = leaves, .targets = targets, .part = mine});
  if (!ctx.exec.plan) {
    group.comm->all_gather({mine.as<std::byte>(), static_cast<size_t>(bytes)},
                           memory_of(parts), even_offsets(parts.bytes(), group.size), "cross-entropy");
  }
  ctx.run(kn::CrossEntropyJoin{.parts = parts, .used = used, .columns = padded_vocab, .targets = targets, .loss = loss, .lse = lse});
}

void Head::logits(Ctx& ctx, const View& hidden, const View& out) const {
  if (elsewhere(ctx)) return;
  gather_weights(ctx, *weight);
  Linear{weight, nullptr}.forward(ctx, hidden, out);
}

namespace {

// Pieces of [0, rows) of `fit` rows at most, in multiples of 32 (the tiles of products), or of 32.
std::vector<RowRange> pieces_of(int64_t rows, int64_t fit) {
  const int64_t step = std::max<int64_t>(32, fit / 32 * 32);
  std::vector<RowRange> all;
  for (int64_t at = 0; at < rows; at += step) all.push_back({at, std::min(step, rows - at)});
  return all;
}

// Pieces where a chain over tokens may pause: whole sequences where they fit, else pieces of one, so
// that neither pairs nor blocks of tokens are split.
std::vector<RowRange> chain_pieces(int64_t rows, int64_t seq, int64_t fit) {
  if (fit >= seq) {
    std::vector<RowRange> all;
    for (int64_t at = 0; at < rows; at += fit / seq * seq) all.push_back({at, std::min(fit / seq * seq, rows - at)});
    return all;
  }
  std::vector<RowRange> all;
  for (int64_t s = 0; s < rows; s += seq)
    for (const RowRange& r : pieces_of(seq, fit)) all.push_back({s + r.begin, r.count});
  return all;
}

}  // namespace

void Head::loss(Ctx& ctx, const View& hidden, const View& targets, const View& loss) const {
  if (elsewhere(ctx)) return;
  gather_weights(ctx, *weight);
  const Linear head{weight, nullptr};
  ArenaFrame whole(ctx.arena);
  const View panels = forward_panels(ctx, *weight, hidden.dtype);
  for (const RowRange& c : pieces_of(hidden.rows(), logits_budget / (4 * padded_vocab))) {
    ArenaFrame frame(ctx.arena);
    const View z = ctx.arena.take(DType::f32, {c.count, padded_vocab});
    const View lse = ctx.arena.take(DType::f32, {c.count});
    head.forward(ctx, panels, rows_of(hidden, c.begin, c.count), z, {});
    cross_entropy(ctx, z, elements_of(targets, c), elements_of(loss, c), lse);
  }
}

// dlogits (R, padded_vocab) of rows whose logits exist for fewer at a time. In fp32 they are one memory.
void Head::logit_gradient(Ctx& ctx, const View& hidden, const View& targets, float scale, const View& loss,
                          const View& dlogits) const {
  const Linear head{weight, nullptr};
  ArenaFrame whole(ctx.arena);
  const View panels = forward_panels(ctx, *weight, hidden.dtype);
  for (const RowRange& c : pieces_of(hidden.rows(), logits_budget / (4 * padded_vocab))) {
    ArenaFrame frame(ctx.arena);
    const View dz = rows_of(dlogits, c.begin, c.count), target = elements_of(targets, c);
    const View z = dz.dtype == DType::f32 ? dz : ctx.arena.take(DType::f32, {c.count, padded_vocab});
    const View lse = ctx.arena.take(DType::f32, {c.count});
    head.forward(ctx, panels, rows_of(hidden, c.begin, c.count), z, {});
    cross_entropy(ctx, z, target, elements_of(loss, c), lse);
    ctx.run(kn::CrossEntropyBwd{.logits = z, .vocab = vocab, .first = first, .targets = target, .lse = lse, .scale = scale,
                                .dlogits = dz});
  }
}

void Head::loss_and_gradient(Ctx& ctx, const View& hidden, const View& targets, float scale, const View& loss,
                             const View& dhidden) const {
  const Linear head{weight, nullptr};
  gather_weights(ctx, *weight);
  for (const RowRange& part : ctx.parts) {
    ArenaFrame part_frame(ctx.arena);
    const int64_t fit = gradient_budget / (size_of(hidden.dtype) * padded_vocab);
    const std::vector<RowRange> pieces = chain_pieces(part.count, ctx.seq, fit);
    View chain = weight->chain;
    if (!chain && pieces.size() > 1) chain = ctx.arena.take(DType::f32, {padded_vocab, hidden.cols()});
    for (size_t i = 0; i < pieces.size(); ++i) {
      const RowRange c{part.begin + pieces[i].begin, pieces[i].count};
      ArenaFrame frame(ctx.arena);
      const View h = rows_of(hidden, c.begin, c.count);
      const View dz = ctx.arena.take(hidden.dtype, {c.count, padded_vocab});
      logit_gradient(ctx, h, elements_of(targets, c), scale, elements_of(loss, c), dz);
      head.backward_input(ctx, dz, rows_of(dhidden, c.begin, c.count));
      kn::GemmDw dw{.dy = dz, .x = h, .seq = std::min(ctx.seq, c.count), .chain = chain,
                    .resume = ctx.resume || i > 0, .pause = ctx.pause || i + 1 < pieces.size(),
                    .grad = weight->chain ? weight->chain : weight->grad,
                    .only = static_cast<bool>(weight->chain),
                    .parts = tied ? ctx.parts_in_step * (ctx.part_tokens + 1) : ctx.parts_in_step,
                    .overflow = weight->overflow, .order = weight->spec.order};
      dw.work = ctx.arena.bytes(kn::gemm_dw_workspace(dz.dtype, c.count, dw.seq, padded_vocab, h.cols(), dw.order));
      ctx.run(dw);
    }
  }
  if (weight->chain && !weight->one_part && !ctx.pause) widen_gradient(ctx);
  if (tied) reduce_gradients(ctx, *weight);  // else with the final norm's
}

// f32 in the first half of the memory to i64 in all of it: upper halves first, whose places are free.
void Head::widen_gradient(Ctx& ctx) const {
  float* from = weight->chain.as<float>();
  int64_t* to = weight->grad.as<int64_t>();
  int64_t end = weight->grad.size();
  for (; end > 1; end -= end / 2) {
    const int64_t begin = end - end / 2;
    ctx.run(kn::ToFixed{.x = View(from + begin, DType::f32, {end - begin}), .y = View(to + begin, DType::i64, {end - begin})});
  }
  ArenaFrame frame(ctx.arena);
  const View last = ctx.arena.take(DType::f32, {1});
  ctx.run(kn::Convert{.x = View(from, DType::f32, {1}), .y = last});
  ctx.run(kn::ToFixed{.x = last, .y = View(to, DType::i64, {1})});
}

}  // namespace llmctl
