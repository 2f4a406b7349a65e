// SPDX-License-Identifier: Apache-2.0
#include "core/train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/train/collect.h"
#include "core/train/layout.h"
#include "kernels/basic.h"
#include "kernels/math.h"

namespace llmctl {

// Packing anew costs a few percent of a pass of 1,024 tokens, and the first of a step saves as much.
Panels panels_of(const TrainConfig& config, int64_t units) {
  return units <= config.parallel.units_per_pass ? Panels::packed_on_use : Panels::kept;
}

ChunkLayout Trainer::chunks() const {
  const UnitConfig& unit = config_.unit;
  return {unit.chunks, unit.sequences, unit.seq_len, sharding_.at(Axis::cp), sharding_.size(Axis::cp)};
}

Recompute Trainer::recompute() const {
  const std::string& r = config_.parallel.recompute;
  // What the gradients of weights are of is kept until the schedule wants them: to compute it again saves nothing.
  if (sharding_.size(Axis::pp) > 1 && config_.parallel.schedule == "zero_bubble") return Recompute::none;
  return r == "block"       ? Recompute::block
         : r == "pointwise" ? Recompute::pointwise
         : r == "norms"     ? Recompute::norms
                            : Recompute::none;
}

// Where every pass divides into as many whole parts for each tensor-parallel rank.
bool Trainer::shares_rows(const DecoderConfig& c) const {
  const int64_t tp = sharding_.size(Axis::tp), own = chunks().own();
  if (tp == 1 || c.moe.experts > 0) return false;
  const int64_t units = config_.batch.units, replicas = sharding_.replicas();
  return own % tp == 0 || (units_per_pass() * own % tp == 0 && units % (replicas * units_per_pass()) == 0);
}

GradKind Trainer::grad_kind() const {
  if (config_.numerics.accumulate == "f32") return GradKind::f32;
  return config_.batch.units * config_.unit.chunks == 1 && !sharding_.shared() ? GradKind::one_part : GradKind::fixed;
}

TrainingMemory Trainer::memory() const {
  const Update update = config_.optimizer.name == "muon" ? Update::muon : Update::adamw;
  Panels panels = panels_of(config_, most_units());
  if (sharding_.states()) panels = sharding_.weights() ? Panels::packed_on_use : Panels::kept;
  return {grad_kind(), update, panels, sharding_};
}

// Parts of experts' gradients are whole at one rank, and ranks that share out experts run as many passes.
RowRange Trainer::own_units() const {
  const int ep = sharding_.size(Axis::ep);
  const std::vector<int64_t> borders = even_offsets(config_.batch.units, sharding_.size(Axis::dp), part_units_ * ep);
  const auto d = static_cast<size_t>(sharding_.at(Axis::dp));
  const int64_t each = (borders[d + 1] - borders[d]) / ep;
  return {borders[d] + sharding_.at(Axis::ep) * each, each};
}

Trainer::Trainer(const TrainConfig& config, ModelSpec spec, const kn::Exec& exec, const Sharding& sharding)
    : config_(config),
      exec_(exec),
      sharding_(sharding),
      part_units_(spec.config.moe.experts > 0 ? config.moe.units_per_part : 1),
      batch_arena_(Arena::staged("batch", exec.device)),
      step_arena_("activations", exec.device),
      optimizer_arena_("optimizer scratch", exec.device),
      returning_arena_("gradients of activations", exec.device) {
  check_layout(config, spec.config, sharding, exec.device);
  check(config.parallel.sequences_per_pass == 0 || (grad_kind() == GradKind::one_part &&
                                                    config.unit.sequences % config.parallel.sequences_per_pass == 0),
        Code::input, "[train] parallel.sequences_per_pass divides the sequences of a step's only unit in fixed point: ",
        config.batch.units, " units of ", config.unit.sequences, " in passes of ", config.parallel.sequences_per_pass);
  check_schedule(config.schedule);
  sharding_.sequence = shares_rows(spec.config);
  model_ = std::make_unique<Model>(std::move(spec), Purpose::training, config.unit.seq_len, exec, memory());
  optimizer_ = std::make_unique<Optimizer>(model_->parameters(), model_->spec().table(), optimizer_arena_,
                                           config.numerics.digest);
  kn::Exec dry = exec;
  dry.plan = true;
  if (sharding_.size(Axis::pp) > 1) {
    plan_pipeline(dry);
    return;
  }
  builder_ = batch_in(batch_arena_);
  builder_->plan(unit_tokens() * units_per_pass());
  std::vector<UnitLoss> losses;
  pass(units_per_pass(), losses, dry);
}

std::unique_ptr<BatchBuilder> Trainer::batch_in(Arena& arena) const {
  const int64_t tokens = unit_tokens() * units_per_pass();
  const int64_t alive = std::min(tokens, piece_tokens());
  arena.release(0);
  return std::make_unique<BatchBuilder>(arena, tokens, BatchBuilder::default_pages(alive), model_->spec().config.vocab, alive,
                                        chunks());
}

int64_t Trainer::piece_tokens() const {
  const UnitConfig& unit = config_.unit;
  if (grad_kind() != GradKind::one_part || model_->spec().config.moe.experts > 0) return unit_tokens() * units_per_pass();
  if (config_.parallel.sequences_per_pass > 0) return config_.parallel.sequences_per_pass * unit.seq_len;
  constexpr int64_t kTokens = 1024;  // products of so many rows are as fast as larger ones
  int64_t sequences = std::clamp<int64_t>(kTokens / unit.seq_len, 1, unit.sequences);
  while (unit.sequences % sequences != 0) --sequences;
  return sequences * unit.seq_len;
}

std::vector<MemoryLine> Trainer::plan() const {
  return {{"weights, moments, gradients", model_->bytes()},
          {"activations and scratch", step_arena_.peak() + slot_bytes(false)},
          {"batch", batch_arena_.peak() + slot_bytes(true)},
          {"optimiser scratch", optimizer_arena_.peak()}};
}

void Trainer::allocate() {
  model_->allocate();
  batch_arena_.allocate();
  step_arena_.allocate();
  optimizer_arena_.allocate();
  if (builder_) builder_ = batch_in(batch_arena_);
  allocate_slots();
  optimizer_ = std::make_unique<Optimizer>(model_->parameters(), model_->spec().table(), optimizer_arena_,
                                           config_.numerics.digest);
}

int Trainer::scale_exponent() const {
  int k = 0;
  while ((int64_t{1} << k) < unit_tokens()) ++k;
  return k;
}

// The head takes all rows, a slice of the vocabulary at each tensor-parallel rank.
View Trainer::head_gradient(Ctx& ctx, const View& hidden_here, const View& targets, const View& loss) {
  const View hidden = all_rows(ctx, hidden_here, "head");
  const View dhidden = step_arena_.take(hidden.dtype, {hidden.rows(), hidden.cols()});
  const float scale = static_cast<float>(kn::math::power_of_two64(-scale_exponent()));
  model_->head().loss_and_gradient(ctx, hidden, targets, scale, loss, dhidden);
  return share_of(ctx, dhidden);
}

void Trainer::piece(Ctx& ctx, const TokenBatch& batch, const View& targets, const View& loss, const View& dx) {
  ArenaFrame frame(step_arena_);
  const Decoder& decoder = model_->decoder();
  const View x = step_arena_.take(model_->spec().compute, {ctx.stream_rows(batch.tokens), model_->spec().config.hidden});
  decoder.embed(ctx, batch, x);
  const DecoderSaved saved = decoder.forward_saving(ctx, batch, recompute(), decoder.all_layers(), x);
  sum_routing(ctx);
  const View dhidden = head_gradient(ctx, saved.hidden, targets, loss);
  decoder.backward(ctx, batch, saved, dhidden, recompute(), decoder.all_layers(), dx);
}

Ctx Trainer::context(int64_t units, int64_t pieces, const kn::Exec& exec) {
  step_arena_.release(0);
  Ctx ctx{.exec = exec, .arena = step_arena_};
  const ChunkLayout cut = chunks();
  ctx.seq = cut.slice();
  ctx.parts_in_step = config_.batch.units * cut.chunks;
  ctx.part_tokens = cut.part_rows();
  ctx.parts_per_unit = cut.own();
  ctx.context = sharding_.along(Axis::cp);
  ctx.store = model_->parameters().store();
  ctx.tensor = sharding_.along(Axis::tp);
  ctx.experts = sharding_.along(Axis::ep);
  ctx.expert_load = &expert_load_;
  ctx.panels = step_arena_.bytes(model_->parameters().packed_bytes());
  for (int64_t p = 0; p < units * cut.own(); ++p)
    ctx.parts.push_back({p * cut.part_rows(), pieces > 1 ? piece_tokens() : cut.part_rows()});
  if (sharding_.sequence) {
    const int64_t rows = units * cut.unit_rows() / ctx.tensor.size;
    ctx.share = {rows * ctx.tensor.rank, rows};
  }
  return ctx;
}

void Trainer::add_losses(const View& loss, std::span<UnitLoss> losses, const kn::Exec& exec) const {
  const std::vector<float> l = fetched<float>(exec, loss);
  const auto rows = static_cast<size_t>(chunks().part_rows());
  for (size_t p = 0; p < losses.size(); ++p) {
    double sum = 0;  // in token order
    for (size_t i = 0; i < rows; ++i) sum += static_cast<double>(l[p * rows + i]);
    losses[p] = {sum};
  }
}

void Trainer::pass(int64_t units, std::vector<UnitLoss>& losses, const kn::Exec& exec) {
  const int64_t pieces = builder_->pieces();
  Ctx ctx = context(units, pieces, exec);
  if (!exec.plan) builder_->send(exec);
  ctx.router_stats = routing_counts(step_arena_, units);
  if (ctx.router_stats) ctx.run(kn::Clear{.x = ctx.router_stats});
  prepare_routing(ctx, *builder_);
  const int64_t tokens = units * chunks().unit_rows();
  const View loss = step_arena_.take(DType::f32, {tokens});
  const View dx = step_arena_.take(model_->spec().compute, {ctx.stream_rows(tokens), model_->spec().config.hidden});
  for (int64_t p = 0; p < pieces; ++p) {
    ctx.resume = p > 0, ctx.pause = p + 1 < pieces;
    const TokenBatch& batch = builder_->batch(p);
    const RowRange rows{p * batch.tokens, batch.tokens};
    piece(ctx, batch, elements_of(builder_->targets(), rows), elements_of(loss, rows),
          rows_of(dx, rows.begin, ctx.stream_rows(rows.count)));
  }
  model_->decoder().backward_embed(ctx, builder_->ids(), builder_->positions(), dx);
  if (exec.plan) return;
  losses.resize(losses.size() + ctx.parts.size());
  const std::span<UnitLoss> now = std::span(losses).last(ctx.parts.size());
  add_losses(loss, now, exec);
  finish_routing(ctx, now);
}

View Trainer::routing_counts(Arena& arena, int64_t units) const {
  const MoeConfig& moe = model_->spec().config.moe;
  return moe.experts == 0 ? View{} : arena.take(DType::i64, {units, 2 * moe.experts + 1});
}

void Trainer::prepare_routing(Ctx& ctx, const BatchBuilder& builder) const {
  if (!ctx.router_stats) return;
  ctx.parts_per_expert_part = config_.moe.units_per_part;
  std::vector<int64_t> targets(static_cast<size_t>(ctx.router_stats.rows()), 1);  // of each unit
  if (!ctx.exec.plan) {
    const int32_t* target = builder.host_targets().as<int32_t>();
    const int64_t rows = ctx.parts.front().count * ctx.parts_per_unit;  // here
    for (int64_t& n : targets) n = std::count_if(target, target + rows, [](int32_t t) { return t >= 0; }), target += rows;
    if (ctx.context.size > 1) ctx.context.comm->all_reduce(targets, CommOp::sum, "targets of units");
  }
  for (const int64_t n : targets) ctx.unit_weight.push_back(static_cast<double>(n) * kn::math::power_of_two64(-scale_exponent()));
}

// What the ranks of a unit counted of its routing, before its losses are made of it.
void Trainer::sum_routing(const Ctx& ctx) const {
  if (!ctx.router_stats || ctx.context.size == 1 || ctx.exec.plan) return;
  ctx.context.comm->all_reduce(std::span(ctx.router_stats.as<int64_t>(), static_cast<size_t>(ctx.router_stats.size())), CommOp::sum,
                               "routing of units");
}

// A unit's losses stand with its first part.
void Trainer::finish_routing(const Ctx& ctx, std::span<UnitLoss> losses) const {
  const DecoderConfig& c = model_->spec().config;
  if (ctx.unit_weight.empty() || ctx.context.rank > 0) return;
  const std::vector<int64_t> counted = fetched<int64_t>(ctx.exec, ctx.router_stats);
  for (size_t u = 0; u < ctx.unit_weight.size(); ++u) {
    const int64_t* stats = counted.data() + static_cast<int64_t>(u) * ctx.router_stats.cols();
    const RouterLosses router = router_losses(c.moe, c.layers, stats, unit_tokens());
    const double targets = ctx.unit_weight[u] * kn::math::power_of_two64(scale_exponent());
    UnitLoss& first = losses[u * static_cast<size_t>(ctx.parts_per_unit)];
    first.balance = targets * router.balance;
    first.z = targets * router.z;
  }
}

void Trainer::read(const BatchSource& source, int64_t step, int64_t unit, Batch& b, StepResult& result) const {
  source.read(step, unit, b);
  count(b, unit, result);
}

void Trainer::count(const Batch& b, int64_t unit, StepResult& result) const {
  check(b.rows == config_.unit.sequences && b.seq == config_.unit.seq_len, Code::bug, "[train] a unit of ", b.rows,
        " x ", b.seq, " tokens");
  if (sharding_.at(Axis::cp) > 0) return;  // ranks of one unit: the first counts it
  result.targets += std::count_if(b.targets.begin(), b.targets.end(), [](int32_t t) { return t >= 0; });
  result.tokens += b.rows * b.seq;
  Digest d = digest_of(b.tokens.data(), b.tokens.size() * 4);
  d += digest_of(b.targets.data(), b.targets.size() * 4);
  d += {static_cast<uint64_t>(unit), 0};
  result.batch += digest_of(&d, sizeof d);
}

void Trainer::add_rows(const Batch& b, BatchBuilder& builder) {
  for (int64_t r = 0; r < b.rows; ++r)
    builder.add_row(std::span(b.tokens).subspan(static_cast<size_t>(r * b.seq), static_cast<size_t>(b.seq)),
                    std::span(b.targets).subspan(static_cast<size_t>(r * b.seq), static_cast<size_t>(b.seq)),
                    b.doc_starts[static_cast<size_t>(r)]);
}

void Trainer::all(CommLabel label, const std::function<void()>& work) const {
  sharding_.shared() ? together(*sharding_.comm, label, work) : work();
}

// As many passes as the rank with the most units needs: a rank that has none left is idle in its last.
void Trainer::compute(const BatchSource& source, int64_t step, RowRange units, StepResult& result,
                      std::vector<UnitLoss>& losses) {
  const int64_t per_pass = units_per_pass();
  expert_load_ = 0;
  const CommLabel label("units", step);
  if (sharding_.size(Axis::pp) > 1) return compute_in_pipeline(source, step, units, result, losses);
  for (int64_t done = 0; done < most_units(); done += per_pass) {
    const int64_t first = units.begin + done, count = std::min(per_pass, units.count - done);
    all(label, [&] {
      Batch b;
      builder_->clear();
      for (int64_t u = first; u < first + count; ++u) {
        read(source, step, u, b, result);
        add_rows(b, *builder_);
      }
    });
    if (count > 0)
      pass(count, losses, exec_);
    else if (BundleStore* store = model_->parameters().store())
      store->idle(0, exec_);
  }
}

// What the ranks' units came to, on all: losses in the order of units, counts and digests of all.
void Trainer::join(const RowRange& units, StepResult& result, std::vector<UnitLoss>& losses) const {
  const ChunkLayout cut = chunks();
  const auto sums_of_units = [&] {  // parts in order
    if (cut.chunks == 1) return;
    std::vector<UnitLoss> sums(static_cast<size_t>(config_.batch.units));
    for (size_t p = 0; p < losses.size(); ++p) {
      UnitLoss& unit = sums[p / static_cast<size_t>(cut.chunks)];
      unit = {unit.loss + losses[p].loss, unit.balance + losses[p].balance, unit.z + losses[p].z};
    }
    losses = std::move(sums);
  };
  if (!sharding_.shared()) return sums_of_units();
  Comm& comm = *sharding_.comm;
  const CommLabel label("losses", result.step);
  std::vector<UnitLoss> all(static_cast<size_t>(config_.batch.units * cut.chunks));
  const std::vector<int64_t> own = cut.chunks_of(cut.rank);
  for (size_t p = 0; p < losses.size() && sharding_.speaks(); ++p)
    all[(static_cast<size_t>(units.begin) + p / own.size()) * static_cast<size_t>(cut.chunks) +
        static_cast<size_t>(own[p % own.size()])] = losses[p];
  if (!sharding_.speaks()) result.batch = {}, result.tokens = result.targets = 0;
  add_bits(comm, std::span(&all.front().loss, all.size() * sizeof(UnitLoss) / sizeof(double)), label);
  losses = std::move(all);
  add_digests(comm, std::span(&result.batch, 1), label);
  std::array<int64_t, 2> counts{result.tokens, result.targets};
  comm.all_reduce(counts, CommOp::sum, label);
  result.tokens = counts[0], result.targets = counts[1];
  sums_of_units();
}

double Trainer::accumulate(const BatchSource& source, int64_t step, StepResult& result) {
  result.step = step;
  model_->parameters().clear_gradients(exec_);
  const RowRange units = own_units();
  std::vector<UnitLoss> losses;
  compute(source, step, units, result, losses);
  if (sharding_.size(Axis::ep) > 1) all(CommLabel("experts", step), [&] { check_expert_load(expert_load_); });
  own_losses_ = losses;
  result.fault = join_fault(fault_here(units, losses), step);
  join(units, result, losses);
  reduced_ = result.fault.empty();
  if (!reduced_) return 0;
  model_->parameters().reduce_gradients(exec_, step);
  check(result.targets > 0, Code::input, "[train] step ", step, " has no target: every row is one token of a document");
  const auto mean = [&](double UnitLoss::*of) {
    std::vector<double> values;
    for (const UnitLoss& l : losses) values.push_back(l.*of);
    return tree_sum(values.data(), static_cast<int64_t>(values.size())) / static_cast<double>(result.targets);
  };
  result.loss = mean(&UnitLoss::loss);
  result.router = {mean(&UnitLoss::balance), mean(&UnitLoss::z)};
  return kn::math::power_of_two64(scale_exponent()) / static_cast<double>(result.targets);
}

StepResult Trainer::gradients(const BatchSource& source, int64_t step) {
  StepResult r;
  r.scale = accumulate(source, step, r);
  if (!r.fault.empty()) return r;
  r.grad_norm = optimizer_->grad_norm(r.scale, step, exec_);
  if (!std::isfinite(r.grad_norm)) r.fault = "the gradient norm is not finite";
  return r;
}

StepResult Trainer::step(const BatchSource& source, int64_t step) {
  StepResult r = gradients(source, step);
  if (!r.fault.empty()) {
    const Error error(Code::input, fmt::format("[train] step {}: {}; the weights of the step before are kept", step, r.fault));
    if (sharding_.shared()) refuse_together(*sharding_.comm, error);
    throw error;
  }
  update(r);
  return r;
}

void Trainer::update(StepResult& r) {
  UpdateResult u = optimizer_->update(config_, r.step, r.scale, exec_, r.grad_norm);
  r.learning_rate = u.learning_rate;
  for (const TensorDigest& t : u.digests) {
    r.gradient += t.gradient;
    r.weights += t.weights;
  }
  r.tensors = std::move(u.digests);
}

}  // namespace llmctl
