// SPDX-License-Identifier: Apache-2.0
#include "core/nn/head.h"

#include <algorithm>

#include "kernels/cross_entropy.h"

namespace llmctl {

Head Head::of(const Decoder& decoder) {
  const DecoderConfig& c = decoder.config();
  return {.weight = &decoder.head(), .vocab = c.vocab, .padded_vocab = c.padded_vocab(),
          .leaves = c.leaves_vocab, .tied = c.tied};
}

void Head::logits(Ctx& ctx, const View& hidden, const View& out) const {
  Linear{weight, nullptr}.forward(ctx, hidden, out);
}

// Whole sequences where they fit, else pieces of one sequence, in multiples of 32: neither pairs nor
// blocks of tokens are split.
std::vector<RowRange> Head::chunks(int64_t rows, int64_t seq) const {
  const int64_t fit = std::max<int64_t>(32, logits_budget / (4 * padded_vocab));
  std::vector<RowRange> all;
  if (fit >= seq) {
    const int64_t step = fit / seq * seq;
    for (int64_t at = 0; at < rows; at += step) all.push_back({at, std::min(step, rows - at)});
    return all;
  }
  const int64_t step = fit / 32 * 32;
  for (int64_t s = 0; s < rows; s += seq)
    for (int64_t at = 0; at < seq; at += step) all.push_back({s + at, std::min(step, seq - at)});
  return all;
}

void Head::loss(Ctx& ctx, const View& hidden, const View& targets, const View& loss) const {
  for (const RowRange& c : chunks(hidden.rows(), hidden.rows())) {
    ArenaFrame frame(ctx.arena);
    const View z = ctx.arena.take(DType::f32, {c.count, padded_vocab});
    const View lse = ctx.arena.take(DType::f32, {c.count});
    logits(ctx, rows_of(hidden, c.begin, c.count), z);
    ctx.run(kn::CrossEntropyFwd{.logits = z, .vocab = vocab, .leaves = leaves,
                                .targets = elements_of(targets, c), .loss = elements_of(loss, c), .lse = lse});
  }
}

void Head::loss_and_gradient(Ctx& ctx, const View& hidden, const View& targets, float scale, const View& loss,
                             const View& dhidden) const {
  const Linear head{weight, nullptr};
  for (const RowRange& part : ctx.parts) {
    ArenaFrame part_frame(ctx.arena);
    const std::vector<RowRange> pieces = chunks(part.count, ctx.seq);
    View chain;
    if (pieces.size() > 1) chain = ctx.arena.take(DType::f32, {padded_vocab, hidden.cols()});
    for (size_t i = 0; i < pieces.size(); ++i) {
      const RowRange c{part.begin + pieces[i].begin, pieces[i].count};
      ArenaFrame frame(ctx.arena);
      const View z = ctx.arena.take(DType::f32, {c.count, padded_vocab});
      const View lse = ctx.arena.take(DType::f32, {c.count});
      const View h = rows_of(hidden, c.begin, c.count), target = elements_of(targets, c);
      head.forward(ctx, h, z);
      ctx.run(kn::CrossEntropyFwd{.logits = z, .vocab = vocab, .leaves = leaves, .targets = target,
                                  .loss = elements_of(loss, c), .lse = lse});
      const View dz = hidden.dtype == DType::f32 ? z : ctx.arena.take(hidden.dtype, {c.count, padded_vocab});
      ctx.run(kn::CrossEntropyBwd{.logits = z, .vocab = vocab, .targets = target, .lse = lse, .scale = scale,
                                  .dlogits = dz});
      head.backward_input(ctx, dz, rows_of(dhidden, c.begin, c.count));
      kn::GemmDw dw{.dy = dz, .x = h, .seq = std::min(ctx.seq, c.count), .chain = chain,
                    .resume = i > 0, .pause = i + 1 < pieces.size(), .grad = weight->grad,
                    .only = weight->one_part,
                    .parts = tied ? ctx.parts_in_step * (part.count + 1) : ctx.parts_in_step,
                    .overflow = weight->overflow, .order = weight->spec.order};
      dw.work = ctx.arena.bytes(kn::gemm_dw_workspace(dz.dtype, c.count, dw.seq, padded_vocab, h.cols(), dw.order));
      ctx.run(dw);
    }
  }
}

}  // namespace llmctl
