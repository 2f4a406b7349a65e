// SPDX-License-Identifier: Apache-2.0
// A step in a pipeline: each rank runs its schedule (pipeline.h), which says when a pass goes forward and
// backward through which stage. Activations and their gradients only move, and the gradients of weights
// are whole numbers: no schedule changes a bit.
#include <algorithm>

#include "core/train/trainer.h"
#include "kernels/basic.h"
#include "kernels/math.h"

namespace llmctl {

struct Trainer::Passing {
  RankGroup ranks;
  int stages;
  int64_t step;
  RowRange units;
  std::vector<UnitLoss>& losses;

  int tag(int pass, int stage, bool back, bool stats) const {
    const int64_t number = ((int64_t{pass} * stages + stage) * 2 + back) * 2 + stats;
    return static_cast<int>(number % Comm::kMaxTag);
  }
  // What stage `from` makes of a pass, for the stage after it or before it.
  void send(int pass, const View& x, const View& stats, int from, bool back, std::vector<CommHandle>& sent) const {
    const int to = (back ? from - 1 : from + 1) % ranks.size;
    for (const View& v : {x, stats})
      if (v) sent.push_back(ranks.comm->isend(memory_of(v), to,
                                              tag(pass, from, back, v.data == stats.data), label(back)));
  }
  void receive(int pass, const View& x, const View& stats, int from, bool back) const {
    for (const View& v : {x, stats})
      if (v) ranks.comm->recv(memory_of(v), from % ranks.size,
                              tag(pass, from, back, v.data == stats.data), label(back));
  }
  CommLabel label(bool back) const { return CommLabel(back ? "gradients of activations" : "activations", step); }
};

namespace {
void wait_for(std::vector<CommHandle>& sent) {
  for (CommHandle& h : sent) h.wait();
  sent.clear();
}
}  // namespace

PipeSchedule Trainer::schedule(int passes) const {
  const ParallelConfig& p = config_.parallel;
  return make_schedule(p.schedule, static_cast<int>(p.pp), static_cast<int>(p.virtual_stages), passes);
}

int64_t Trainer::slot_bytes(bool batch) const {
  int64_t bytes = 0;
  for (const auto& s : slots_) bytes += batch ? s->batch_arena.peak() : s->arena.peak();
  return batch ? bytes : bytes + returning_arena_.peak();
}

// Where weights or gradients come and go, ranks that hold the same layers run as many passes as the one with the most
// units: others go idly through their last.
int64_t Trainer::scheduled_units(int64_t own) const { return model_->parameters().store() ? most_units() : own; }

namespace {
// What a stage does in a pass, by number (core/nn/bundle_store.h).
int part_of(PipeOp op, int stage) {
  return 3 * stage + (op == PipeOp::forward ? 0 : op == PipeOp::backward_weight ? 2 : 1);
}
}  // namespace

// As many slots as the schedule keeps passes alive at this rank, each with room for any of its stages.
void Trainer::plan_pipeline(const kn::Exec& dry) {
  const int count = passes(scheduled_units(own_units().count)), rank = sharding_.at(Axis::pp);  // fewer may keep more alive
  const Stages& stages = model_->decoder().stages();
  const PipeSchedule order = schedule(count);
  const PipeTimes times = simulate(order);
  const bool in_two = config_.parallel.schedule == "zero_bubble";
  returning_.resize(static_cast<size_t>(std::max(1, outstanding_needed(order)) + 1));
  place_returning();
  for (int i = 0; i < times.alive_of_rank[static_cast<size_t>(rank)]; ++i) {
    slots_.push_back(std::make_unique<Slot>(exec_.device, i));
    Slot& slot = *slots_.back();
    slot.builder = batch_in(slot.batch_arena);
    slot.builder->plan(unit_tokens() * units_per_pass());
    for (int s = rank; s < stages.count(); s += stages.ranks) {
      const auto part = [&](PipeOp op) {
        if (BundleStore* store = model_->parameters().store()) store->plan_part(part_of(op, s));
      };
      part(PipeOp::forward);
      forward_stage(slot, s, units_per_pass(), nullptr, dry);
      part(PipeOp::backward);
      backward_stage(slot, s, !in_two, nullptr, dry);
      part(PipeOp::backward_weight);
      backward_weights(slot, dry);
    }
  }
}

void Trainer::place_returning() {
  returning_arena_.release(0);
  for (Returning& r : returning_) {
    const int64_t rows = chunks().unit_rows() * units_per_pass() / (sharding_.sequence ? sharding_.size(Axis::tp) : 1);
    r.dx = returning_arena_.take(model_->spec().compute, {rows, model_->spec().config.hidden});
    r.stats = routing_counts(returning_arena_, units_per_pass());
  }
}

void Trainer::allocate_slots() {
  returning_arena_.allocate();
  place_returning();
  for (const auto& slot : slots_) {
    slot->batch_arena.allocate();
    slot->arena.allocate();
    slot->builder = batch_in(slot->batch_arena);
  }
}

void Trainer::forward_stage(Slot& slot, int stage, int64_t units, const Passing* passing, const kn::Exec& exec) {
  const Decoder& decoder = model_->decoder();
  slot.arena.release(0);
  slot.units = units;
  Ctx ctx = context(units, 1, exec);
  ctx.keep = &slot.arena;
  slot.x = slot.arena.take(model_->spec().compute, {ctx.stream_rows(units * chunks().unit_rows()), model_->spec().config.hidden});
  slot.stats = routing_counts(slot.arena, units);
  ctx.router_stats = slot.stats;
  if (!exec.plan) slot.builder->send(exec);
  const TokenBatch& batch = slot.builder->batch();
  if (stage == 0) {
    decoder.embed(ctx, batch, slot.x);
    if (slot.stats) ctx.run(kn::Clear{.x = slot.stats});
  } else if (passing) {
    passing->receive(slot.pass, slot.x, slot.stats, stage - 1, false);
  }
  slot.saved = decoder.forward_saving(ctx, batch, recompute(), decoder.stages().layers_of(stage), slot.x);
  if (passing && stage + 1 < passing->stages) passing->send(slot.pass, slot.saved.x.back(), slot.stats, stage, false, slot.sent);
}

void Trainer::backward_stage(Slot& slot, int stage, bool whole, const Passing* passing, const kn::Exec& exec) {
  const Decoder& decoder = model_->decoder();
  const bool last = stage + 1 == decoder.stages().count();
  Ctx ctx = context(slot.units, 1, exec);
  ctx.keep = &slot.arena;
  const TokenBatch& batch = slot.builder->batch();
  Returning& back = returning_[next_returning_++ % returning_.size()];
  wait_for(back.sent);
  const View dx = rows_of(back.dx, 0, ctx.stream_rows(slot.units * chunks().unit_rows()));
  ctx.router_stats = slot.stats ? rows_of(back.stats, 0, slot.units) : View{};
  if (last && slot.stats)
    ctx.run(kn::Convert{.x = slot.stats, .y = ctx.router_stats});
  else if (passing && !last)
    passing->receive(slot.pass, dx, ctx.router_stats, stage + 1, true);
  prepare_routing(ctx, *slot.builder);
  if (last) sum_routing(ctx);
  View dhidden;
  if (last) {
    const View loss = step_arena_.take(DType::f32, {slot.units * chunks().unit_rows()});
    dhidden = head_gradient(ctx, slot.saved.hidden, slot.builder->targets(), loss);
    if (passing) {
      const std::span<UnitLoss> losses = std::span(passing->losses).subspan(
          static_cast<size_t>(slot.pass * units_per_pass() * chunks().own()), ctx.parts.size());
      add_losses(loss, losses, exec);
      finish_routing(ctx, losses);
    }
  }
  slot.later.clear();
  if (!whole) ctx.later = &slot.later;
  decoder.backward(ctx, batch, slot.saved, dhidden, recompute(), decoder.stages().layers_of(stage), dx);
  if (stage == 0) return decoder.backward_embed(ctx, slot.builder->ids(), slot.builder->positions(), dx);
  if (passing) passing->send(slot.pass, dx, ctx.router_stats, stage, true, back.sent);
}

void Trainer::backward_weights(Slot& slot, const kn::Exec& exec) {
  Ctx ctx = context(slot.units, 1, exec);
  for (const auto& gradient : slot.later) gradient(ctx);
  slot.later.clear();
}

void Trainer::compute_in_pipeline(const BatchSource& source, int64_t step, RowRange units, StepResult& result,
                                  std::vector<UnitLoss>& losses) {
  // What is wrong with the data all ranks say together: in the schedule one would leave the others waiting.
  std::vector<Batch> batches(static_cast<size_t>(units.count));
  all(CommLabel("units", step), [&] {
    for (size_t u = 0; u < batches.size(); ++u) {
      read(source, step, units.begin + static_cast<int64_t>(u), batches[u], result);
      slots_.front()->builder->clear();
      add_rows(batches[u], *slots_.front()->builder);
    }
  });
  losses.resize(static_cast<size_t>(units.count * chunks().own()));
  const int stages = model_->decoder().stages().count(), count = passes(scheduled_units(units.count));
  const Passing passing{sharding_.along(Axis::pp), stages, step, units, losses};
  const auto slot_of = [&](int pass, int stage) -> Slot& {
    for (const auto& s : slots_)
      if (s->pass == pass && (pass < 0 || s->stage == stage)) return *s;
    throw Error{Code::bug, "[train] a schedule that keeps more passes alive than was planned"};
  };
  const PipeSchedule order = schedule(count);
  for (const PipeAction& a : order.of_rank[static_cast<size_t>(passing.ranks.rank)]) {
    if (a.unit * units_per_pass() >= units.count) {
      model_->parameters().store()->idle(part_of(a.op, a.stage), exec_);
    } else if (a.op == PipeOp::forward) {
      Slot& slot = slot_of(-1, 0);
      wait_for(slot.sent);
      slot.pass = a.unit, slot.stage = a.stage;
      const int64_t first = a.unit * units_per_pass(), n = std::min(units_per_pass(), units.count - first);
      slot.builder->clear();
      for (int64_t u = first; u < first + n; ++u) add_rows(batches[static_cast<size_t>(u)], *slot.builder);
      forward_stage(slot, a.stage, n, &passing, exec_);
    } else {
      Slot& slot = slot_of(a.unit, a.stage);
      if (a.op == PipeOp::backward_weight)
        backward_weights(slot, exec_);
      else
        backward_stage(slot, a.stage, a.op == PipeOp::backward, &passing, exec_);
      if (a.op != PipeOp::backward_input) slot.pass = -1;
    }
  }
  for (const auto& slot : slots_) wait_for(slot->sent);
  for (Returning& r : returning_) wait_for(r.sent);
}

}  // namespace llmctl
