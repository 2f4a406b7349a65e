// SPDX-License-Identifier: Apache-2.0
#include "core/models/score.h"

#include <algorithm>

#include "kernels/basic.h"

namespace llmctl {
namespace {

constexpr int64_t kLogitRows = 64;  // planned for logits(): more rows are refused

}  // namespace

Scorer::Scorer(Model& model, int64_t max_tokens, const kn::Exec& exec)
    : model_(model), exec_(exec), fixed_(Arena::staged("score batch", exec.device)), scratch_("score", exec.device),
      builder_(fixed_, max_tokens, BatchBuilder::default_pages(max_tokens), model.spec().config.vocab) {
  fixed_.allocate();
  builder_ = BatchBuilder(fixed_, max_tokens, BatchBuilder::default_pages(max_tokens), model.spec().config.vocab);
  kn::Exec dry = exec;
  dry.plan = true;
  builder_.plan(max_tokens);
  Ctx ctx = context(dry);
  const View hidden = scratch_.take(model_.spec().compute, {max_tokens, model_.spec().config.hidden});
  model_.decoder().forward(ctx, builder_.batch(), hidden);
  {
    ArenaFrame frame(scratch_);
    model_.head().loss(ctx, hidden, builder_.targets(), scratch_.take(DType::f32, {max_tokens}));
  }
  const int64_t rows = std::min(kLogitRows, max_tokens);
  const View picked = scratch_.take(hidden.dtype, {rows, hidden.cols()});
  scratch_.take(DType::i32, {rows});
  model_.head().logits(ctx, picked, scratch_.take(DType::f32, {rows, model_.head().padded_vocab}));
  scratch_.allocate();
  builder_.clear();
}

Ctx Scorer::context(const kn::Exec& exec) {
  Ctx ctx = model_.context(exec, scratch_);
  ctx.expert_load = &expert_load_;
  return ctx;
}

View Scorer::forward() {
  scratch_.release(0);
  builder_.send(exec_);
  Ctx ctx = context(exec_);
  const TokenBatch& batch = builder_.batch();
  const View hidden = scratch_.take(model_.spec().compute, {batch.tokens, model_.spec().config.hidden});
  model_.decoder().forward(ctx, batch, hidden);
  return hidden;
}

View Scorer::losses() {
  const View hidden = forward();
  Ctx ctx = context(exec_);
  const View loss = scratch_.take(DType::f32, {hidden.rows()});
  model_.head().loss(ctx, hidden, builder_.targets(), loss);
  return on_host(loss);
}

// The same values where the caller can read them.
View Scorer::on_host(View v) {
  if (exec_.device.kind == kn::DeviceKind::cpu) return v;
  result_ = fetched<float>(exec_, v);
  v.data = result_.data();
  return v;
}

View Scorer::logits(const std::vector<int32_t>& rows) {
  check(rows.size() <= kLogitRows, Code::bug, "[score] logits of ", rows.size(), " rows");
  const View hidden = forward();
  Ctx ctx = context(exec_);
  const auto n = static_cast<int64_t>(rows.size());
  const View picked = scratch_.take(hidden.dtype, {n, hidden.cols()});
  const View index = scratch_.take(DType::i32, {n});
  kn::upload(exec_, index.data, rows.data(), index.bytes());
  ctx.run(kn::GatherRows{.x = hidden, .index = index, .y = picked});
  const View out = scratch_.take(DType::f32, {n, model_.head().padded_vocab});
  model_.head().logits(ctx, picked, out);
  return on_host(out);
}

}  // namespace llmctl
