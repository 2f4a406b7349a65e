// SPDX-License-Identifier: Apache-2.0
#include "core/train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/math.h"

namespace llmctl {

// Packing anew costs a few percent of a pass of 1,024 tokens, and the first of a step saves as much.
Panels panels_of(const TrainConfig& config) {
  return config.batch.units == config.parallel.units_per_pass ? Panels::packed_on_use : Panels::kept;
}

namespace {

GradKind grad_kind(const TrainConfig& config) {
  if (config.numerics.accumulate == "f32") return GradKind::f32;
  return config.batch.units == 1 ? GradKind::one_part : GradKind::fixed;
}

Recompute recompute_of(const TrainConfig& config) {
  const std::string& r = config.parallel.recompute;
  return r == "block"       ? Recompute::block
         : r == "pointwise" ? Recompute::pointwise
         : r == "norms"     ? Recompute::norms
                            : Recompute::none;
}

}  // namespace

Trainer::Trainer(const TrainConfig& config, ModelSpec spec, const kn::Exec& exec)
    : config_(config),
      exec_(exec),
      model_(std::make_unique<Model>(std::move(spec), Purpose::training, config.unit.seq_len, exec,
                                     grad_kind(config),
                                     config.optimizer.name == "muon" ? Update::muon : Update::adamw,
                                     panels_of(config))),
      batch_arena_(Arena::staged("batch", exec.device)),
      step_arena_("activations", exec.device),
      optimizer_arena_("optimizer scratch", exec.device) {
  check(config.batch.units % config.parallel.units_per_pass == 0, Code::input, "[train] ", config.batch.units,
        " units do not divide into passes of ", config.parallel.units_per_pass);
  check(config.parallel.sequences_per_pass == 0 || (grad_kind(config) == GradKind::one_part &&
                                                    config.unit.sequences % config.parallel.sequences_per_pass == 0),
        Code::input, "[train] parallel.sequences_per_pass divides the sequences of a step's only unit in fixed point: ",
        config.batch.units, " units of ", config.unit.sequences, " in passes of ", config.parallel.sequences_per_pass);
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
  const int64_t alive = std::min(tokens, piece_tokens());
  batch_arena_.release(0);
  builder_ = std::make_unique<BatchBuilder>(batch_arena_, tokens, BatchBuilder::default_pages(alive),
                                            model_->spec().config.vocab, alive);
}

int64_t Trainer::piece_tokens() const {
  const UnitConfig& unit = config_.unit;
  if (grad_kind(config_) != GradKind::one_part) return unit_tokens() * config_.parallel.units_per_pass;
  if (config_.parallel.sequences_per_pass > 0) return config_.parallel.sequences_per_pass * unit.seq_len;
  constexpr int64_t kTokens = 1024;  // products of so many rows are as fast as larger ones
  int64_t sequences = std::clamp<int64_t>(kTokens / unit.seq_len, 1, unit.sequences);
  while (unit.sequences % sequences != 0) --sequences;
  return sequences * unit.seq_len;
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

void Trainer::piece(Ctx& ctx, const TokenBatch& batch, const View& targets, const View& loss, const View& dx) {
  ArenaFrame frame(step_arena_);
  const Recompute recompute = recompute_of(config_);
  const DecoderSaved saved = model_->decoder().forward_saving(ctx, batch, recompute);
  const View dhidden = step_arena_.take(saved.hidden.dtype, {batch.tokens, saved.hidden.cols()});
  const float scale = static_cast<float>(kn::math::power_of_two64(-scale_exponent()));
  model_->head().loss_and_gradient(ctx, saved.hidden, targets, scale, loss, dhidden);
  model_->decoder().backward(ctx, batch, saved, dhidden, recompute, dx);
}

void Trainer::pass(int64_t units, std::vector<double>& unit_losses, const kn::Exec& exec) {
  step_arena_.release(0);
  Ctx ctx{.exec = exec, .arena = step_arena_};
  ctx.seq = config_.unit.seq_len;
  ctx.parts_in_step = config_.batch.units;
  ctx.part_tokens = unit_tokens();
  ctx.panels = step_arena_.bytes(model_->parameters().packed_bytes());
  const int64_t pieces = builder_->pieces();
  if (!exec.plan) builder_->send(exec);
  for (int64_t u = 0; u < units; ++u)
    ctx.parts.push_back({u * unit_tokens(), pieces > 1 ? piece_tokens() : unit_tokens()});
  const int64_t tokens = units * unit_tokens();
  const View loss = step_arena_.take(DType::f32, {tokens});
  const View dx = step_arena_.take(model_->spec().compute, {tokens, model_->spec().config.hidden});
  for (int64_t p = 0; p < pieces; ++p) {
    ctx.resume = p > 0, ctx.pause = p + 1 < pieces;
    const TokenBatch& batch = builder_->batch(p);
    const RowRange rows{p * batch.tokens, batch.tokens};
    piece(ctx, batch, elements_of(builder_->targets(), rows), elements_of(loss, rows),
          rows_of(dx, rows.begin, rows.count));
  }
  model_->decoder().backward_embed(ctx, builder_->ids(), builder_->positions(), dx);
  if (exec.plan) return;
  const std::vector<float> l = fetched<float>(exec, loss);
  for (int64_t u = 0; u < units; ++u) {
    double sum = 0;  // in token order
    for (int64_t i = 0; i < unit_tokens(); ++i) sum += static_cast<double>(l[static_cast<size_t>(u * unit_tokens() + i)]);
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
    optimizer_->check_overflow(where, exec_);
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
