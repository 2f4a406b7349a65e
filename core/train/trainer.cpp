// SPDX-License-Identifier: Apache-2.0
#include "core/train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/math.h"

namespace llmctl {

Trainer::Trainer(const TrainConfig& config, ModelSpec spec, const kn::Exec& exec)
    : config_(config),
      exec_(exec),
      model_(std::make_unique<Model>(std::move(spec), Purpose::training, config.unit.seq_len, exec,
                                     config.numerics.accumulate == "f32" ? GradKind::f32
                                     : config.batch.units == 1           ? GradKind::one_part
                                                                         : GradKind::fixed,
                                     config.optimizer.name == "muon" ? Update::muon : Update::adamw)),
      batch_arena_("batch"),
      step_arena_("activations", exec.device),
      optimizer_arena_("optimizer scratch", exec.device) {
  check(config.batch.units % config.parallel.units_per_pass == 0, Code::input, "[train] ", config.batch.units,
        " units do not divide into passes of ", config.parallel.units_per_pass);
  check_schedule(config.schedule);
  place_batch();
  optimizer_ = std::make_unique<Optimizer>(model_->parameters(), optimizer_arena_, config.numerics.digest);
  kn::Exec dry = exec;
  dry.plan = true;
  builder_->plan(unit_tokens() * config.parallel.units_per_pass);
  std::vector<double> losses;
  pass(config.parallel.units_per_pass, losses, dry);
}

void Trainer::place_batch() {
  const int64_t tokens = unit_tokens() * config_.parallel.units_per_pass;
  const int64_t pages = std::max(BatchBuilder::default_pages(tokens), BatchBuilder::default_pages(config_.unit.seq_len));
  batch_arena_.release(0);
  builder_ = std::make_unique<BatchBuilder>(batch_arena_, tokens, pages, model_->spec().config.vocab);
}

std::vector<MemoryLine> Trainer::plan() const {
  return {{"weights, moments, gradients", model_->bytes()},
          {"activations and scratch", step_arena_.peak()},
          {"batch", batch_arena_.peak()},
          {"optimiser scratch", optimizer_arena_.peak()}};
}

void Trainer::allocate() {
  model_->allocate();
  batch_arena_.allocate();
  step_arena_.allocate();
  optimizer_arena_.allocate();
  place_batch();
  optimizer_ = std::make_unique<Optimizer>(model_->parameters(), optimizer_arena_, config_.numerics.digest);
}

int Trainer::scale_exponent() const {
  int k = 0;
  while ((int64_t{1} << k) < unit_tokens()) ++k;
  return k;
}

void Trainer::pass(int64_t units, std::vector<double>& unit_losses, const kn::Exec& exec) {
  step_arena_.release(0);
  Ctx ctx{.exec = exec, .arena = step_arena_};
  ctx.seq = config_.unit.seq_len;
  ctx.parts_in_step = config_.batch.units;
  for (int64_t u = 0; u < units; ++u) ctx.parts.push_back({u * unit_tokens(), unit_tokens()});
  const Recompute recompute = config_.parallel.recompute == "block" ? Recompute::block : Recompute::none;
  const TokenBatch& batch = builder_->batch();
  const View loss = step_arena_.take(DType::f32, {batch.tokens});
  const DecoderSaved saved = model_->decoder().forward_saving(ctx, batch, recompute);
  const View dhidden = step_arena_.take(saved.hidden.dtype, {batch.tokens, saved.hidden.cols()});
  const float scale = static_cast<float>(kn::math::power_of_two64(-scale_exponent()));
  model_->head().loss_and_gradient(ctx, saved.hidden, builder_->targets(), scale, loss, dhidden);
  model_->decoder().backward(ctx, batch, saved, dhidden, recompute);
  if (exec.plan) return;
  const float* l = loss.as<float>();
  for (const RowRange& part : ctx.parts) {
    double sum = 0;  // in token order
    for (int64_t i = 0; i < part.count; ++i) sum += static_cast<double>(l[part.begin + i]);
    unit_losses.push_back(sum);
  }
}

double Trainer::accumulate(const BatchSource& source, int64_t step, StepResult& result) {
  result.step = step;
  optimizer_->clear_gradients(exec_);
  std::vector<double> losses;
  Batch b;
  const int64_t per_pass = config_.parallel.units_per_pass;
  for (int64_t first = 0; first < config_.batch.units; first += per_pass) {
    builder_->clear();
    for (int64_t u = 0; u < per_pass; ++u) {
      source.read(step, first + u, b);
      check(b.rows == config_.unit.sequences && b.seq == config_.unit.seq_len, Code::bug, "[train] a unit of ", b.rows,
            " x ", b.seq, " tokens");
      for (int64_t r = 0; r < b.rows; ++r)
        builder_->add_row(std::span(b.tokens).subspan(static_cast<size_t>(r * b.seq), static_cast<size_t>(b.seq)),
                          std::span(b.targets).subspan(static_cast<size_t>(r * b.seq), static_cast<size_t>(b.seq)),
                          b.doc_starts[static_cast<size_t>(r)]);
      result.targets += std::count_if(b.targets.begin(), b.targets.end(), [](int32_t t) { return t >= 0; });
      result.tokens += b.rows * b.seq;
      Digest d = digest_of(b.tokens.data(), b.tokens.size() * 4);
      d += digest_of(b.targets.data(), b.targets.size() * 4);
      d += {static_cast<uint64_t>(first + u), 0};
      result.batch += digest_of(&d, sizeof d);
    }
    pass(per_pass, losses, exec_);
    const std::string where = fmt::format("step {}, units {}..{}", step, first, first + per_pass - 1);
    for (size_t i = losses.size() - static_cast<size_t>(per_pass); i < losses.size(); ++i)
      check(std::isfinite(losses[i]), Code::input, "[train] ", where, ": the loss is not finite");
    optimizer_->check_overflow(where);
  }
  check(result.targets > 0, Code::input, "[train] step ", step, " has no target: every row is one token of a document");
  result.loss = tree_sum(losses.data(), static_cast<int64_t>(losses.size())) / static_cast<double>(result.targets);
  return kn::math::power_of_two64(scale_exponent()) / static_cast<double>(result.targets);
}

StepResult Trainer::step(const BatchSource& source, int64_t step) {
  StepResult r;
  const double scale = accumulate(source, step, r);
  UpdateResult u = optimizer_->update(config_, step, scale, exec_);
  r.grad_norm = u.grad_norm;
  r.learning_rate = u.learning_rate;
  for (const TensorDigest& t : u.digests) {
    r.gradient += t.gradient;
    r.weights += t.weights;
  }
  r.tensors = std::move(u.digests);
  return r;
}

}  // namespace llmctl
