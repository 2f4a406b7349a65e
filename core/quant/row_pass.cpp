// SPDX-License-Identifier: Apache-2.0
#include "core/quant/row_pass.h"

#include <algorithm>
#include <cstring>

#include "kernels/cross_entropy.h"

namespace llmctl {

RowPass::RowPass(Model& model, int64_t max_tokens, const kn::Exec& exec)
    : model_(model), exec_(exec), max_tokens_(max_tokens), fixed_("row pass batch"), scratch_("row pass"),
      builder_(fixed_, max_tokens, BatchBuilder::default_pages(max_tokens), model.spec().config.vocab) {
  check(max_tokens >= 1 && max_tokens <= model.context(), Code::usage, "[quant] rows of ", max_tokens,
        " tokens, the model's context is ", model.context());
  fixed_.take(DType::i32, {kLogitRows});
  fixed_.allocate();
  fixed_.release(0);
  builder_ = BatchBuilder(fixed_, max_tokens, BatchBuilder::default_pages(max_tokens), model.spec().config.vocab);
  targets_ = fixed_.take(DType::i32, {kLogitRows});
  kn::Exec dry = exec;
  dry.plan = true;
  builder_.plan(max_tokens);
  Ctx ctx{.exec = dry, .arena = scratch_};
  forward(builder_.batch(), ctx);
  score(ctx, {0, std::min(kLogitRows, max_tokens)});
  scratch_.allocate();
}

View RowPass::forward(const TokenBatch& batch, Ctx& ctx) {
  scratch_.release(0);
  hidden_ = scratch_.take(model_.spec().compute, {batch.tokens, model_.spec().config.hidden});
  mark_ = scratch_.mark();
  model_.decoder().forward(ctx, batch, hidden_);
  return hidden_;
}

View RowPass::hidden(std::span<const int32_t> ids, const LinearObserver* observe) {
  const auto n = static_cast<int64_t>(ids.size());
  check(n >= 1 && n <= max_tokens_, Code::input, "[quant] a row of ", n, " tokens, wanted 1..", max_tokens_);
  const int64_t vocab = model_.spec().config.vocab;
  for (int32_t id : ids)
    check(id >= 0 && id < vocab, Code::input, "[quant] token id ", id, " is outside the model's ", vocab,
          ": tokenizer and model do not belong together");
  builder_.clear();
  builder_.add_row(ids, {}, {});
  Ctx ctx{.exec = exec_, .arena = scratch_};
  ctx.observe = observe;
  return forward(builder_.batch(), ctx);
}

RowPass::Scores RowPass::score(Ctx& ctx, const RowRange& rows) {
  scratch_.release(mark_);
  const DecoderConfig& c = model_.spec().config;
  Scores s;
  s.logits = scratch_.take(DType::f32, {rows.count, c.padded_vocab()});
  s.loss = scratch_.take(DType::f32, {rows.count});
  s.lse = scratch_.take(DType::f32, {rows.count});
  model_.head().logits(ctx, rows_of(hidden_, rows.begin, rows.count), s.logits);
  ctx.run(kn::CrossEntropyFwd{.logits = s.logits, .vocab = c.vocab, .leaves = c.leaves_vocab,
                              .targets = elements_of(targets_, {0, rows.count}), .loss = s.loss, .lse = s.lse});
  return s;
}

RowPass::Scores RowPass::scores(const RowRange& rows, std::span<const int32_t> targets) {
  check(rows.count >= 1 && rows.count <= kLogitRows && static_cast<int64_t>(targets.size()) == rows.count &&
            rows.begin + rows.count <= hidden_.rows(),
        Code::bug, "[quant] scores of ", rows.count, " rows from ", rows.begin, " of ", hidden_.rows());
  std::memcpy(targets_.data, targets.data(), targets.size_bytes());
  Ctx ctx{.exec = exec_, .arena = scratch_};
  return score(ctx, rows);
}

}  // namespace llmctl
