// SPDX-License-Identifier: Apache-2.0
// One training step and the memory it lives in. The step is a pure function of the state (masters,
// moments), the config and the step number; what decides bits is logical (units), what does not
// (threads, instruction set, units per pass, ranks and how they share the state) is free.
#pragma once

#include <memory>

#include "core/models/model.h"
#include "core/nn/token_batch.h"
#include "core/train/batch.h"
#include "core/train/optimizer.h"
#include "core/train/pipeline.h"

namespace llmctl {

struct StepResult {
  int64_t step = 0;
  double loss = 0;  // mean over the step's targets, nats
  int64_t tokens = 0, targets = 0;
  // What is not finite, "" when all is; why the step was not taken (core/train/guard.h), "" when it was. The
  // same on all ranks.
  std::string fault, skipped;
  double scale = 0;  // turns the sums of gradients (fixed point read as its value) into the mean
  double grad_norm = 0, learning_rate = 0;
  // Of a mixture of experts: means over units of core/nn/moe.h's losses, each unit weighing as many as its
  // targets. What is minimised is loss + router_aux_loss_coef balance + router_z_loss_coef z.
  RouterLosses router;
  Digest batch, gradient, weights;  // sums over tensors
  std::vector<TensorDigest> tensors;
};

// Sums over a unit's targets, nats. f64s only: they travel as such.
struct UnitLoss {
  double loss = 0, balance = 0, z = 0;
};

// Of something that a rank made in a step.
struct Evidence {
  std::string what;
  Digest digest;
};

struct MemoryLine {
  std::string what;
  int64_t bytes = 0;
};

// What the plan decides about the compute copy, of a rank that computes so many units of a step.
Panels panels_of(const TrainConfig& config, int64_t units);

class Trainer {
 public:
  // Plans everything; maps nothing. References are kept. The ranks of a group make the same calls, and
  // each computes a run of a step's units; results are those of all, on all ranks.
  Trainer(const TrainConfig& config, ModelSpec spec, const kn::Exec& exec, const Sharding& sharding = {});
  // Where the memory goes, planned: sums to what the process will hold beside itself.
  std::vector<MemoryLine> plan() const;
  // Maps memory. Then load or initialise the model, and step.
  void allocate();

  Model& model() { return *model_; }
  Optimizer& optimizer() { return *optimizer_; }
  // Error{input} on all ranks when a loss or gradient is not finite: before any weight has changed.
  StepResult step(const BatchSource& source, int64_t step);
  // A step in two: all up to the gradient's norm, which may be done again, and the update with it. Where
  // result.fault says that something is not finite there is nothing to update with.
  StepResult gradients(const BatchSource& source, int64_t step);
  void update(StepResult& result);
  // The step's batch alone: digest and counts.
  StepResult look(const BatchSource& source, int64_t step);
  // What this rank made in the last gradients(): losses of units, flags, and gradients (of what it keeps of
  // their sums over the ranks, where they are summed already).
  std::vector<Evidence> evidence() const;
  // The gradient sums alone, without the update: mean loss in `result`. Returns what turns the sums
  // (fixed point read as its value, kernels/fixed.h) into the mean gradient.
  double accumulate(const BatchSource& source, int64_t step, StepResult& result);

 private:
  // Units [first, end) of a step, here; losses of each are appended.
  void compute(const BatchSource& source, int64_t step, RowRange units, StepResult& result, std::vector<UnitLoss>& losses);
  // A unit, counted; and its rows to a pass's.
  void read(const BatchSource& source, int64_t step, int64_t unit, Batch& batch, StepResult& result) const;
  static void add_rows(const Batch& batch, BatchBuilder& builder);
  void count(const Batch& batch, int64_t unit, StepResult& result) const;
  // What is not finite here, and of all ranks the first that found something.
  std::string fault_here(const RowRange& units, const std::vector<UnitLoss>& losses) const;
  std::string join_fault(const std::string& mine, int64_t step) const;
  // What one rank alone may fail at.
  void all(CommLabel label, const std::function<void()>& work) const;
  // Sums of parts, of the units here, to those of units, of all.
  void join(const RowRange& units, StepResult& result, std::vector<UnitLoss>& losses) const;
  RowRange own_units() const;
  int64_t most_units() const {  // of a rank
    const int64_t dp = sharding_.size(Axis::dp), parts = config_.batch.units / (part_units_ * sharding_.size(Axis::ep));
    return (parts + dp - 1) / dp * part_units_;
  }
  int64_t units_per_pass() const { return std::min(config_.parallel.units_per_pass, most_units()); }
  GradKind grad_kind() const;
  TrainingMemory memory() const;
  // Of a pass, in a batch arena: planned first, then placed.
  std::unique_ptr<BatchBuilder> batch_in(Arena& arena) const;
  // Forward and backward of the units in the builder; appends the sum of losses of each part here. Of a step's
  // only unit some sequences are alive at a time, and it passes in pieces of so many.
  void pass(int64_t units, std::vector<UnitLoss>& losses, const kn::Exec& exec);
  View head_gradient(Ctx& ctx, const View& hidden, const View& targets, const View& loss);
  bool shares_rows(const DecoderConfig& config) const;
  void piece(Ctx& ctx, const TokenBatch& batch, const View& targets, const View& loss, const View& dx);
  int64_t unit_tokens() const { return config_.unit.sequences * config_.unit.seq_len; }
  ChunkLayout chunks() const;
  int64_t piece_tokens() const;
  // Of a pass of so many units, in the step's arena.
  Ctx context(int64_t units, int64_t pieces, const kn::Exec& exec);
  Recompute recompute() const;
  void add_losses(const View& loss, std::span<UnitLoss> losses, const kn::Exec& exec) const;
  // What the losses of routers need in a pass, and what they come to.
  View routing_counts(Arena& arena, int64_t units) const;
  void prepare_routing(Ctx& ctx, const BatchBuilder& builder) const;
  void sum_routing(const Ctx& ctx) const;
  void finish_routing(const Ctx& ctx, std::span<UnitLoss> losses) const;
  // 2^k near the tokens of a unit: backward carries losses times 2^-k.
  int scale_exponent() const;

  // Pipeline parallel (trainer_pipeline.cpp): a slot keeps what a pass leaves at a stage for its backward.
  struct Slot {
    Slot(const kn::Device& device, int number)
        : batch_arena(Arena::staged("batch " + std::to_string(number), device)),
          arena("stage " + std::to_string(number), device) {}
    Arena batch_arena, arena;
    std::unique_ptr<BatchBuilder> builder;
    int pass = -1, stage = -1;  // of what it keeps; free below 0
    int64_t units = 0;
    View x, stats;
    DecoderSaved saved;
    std::vector<std::function<void(Ctx&)>> later;  // gradients of weights, where the backward pass comes in two
    std::vector<CommHandle> sent;  // messages of its memory
  };
  // Gradients of activations on their way back through a stage, and then to the stage before it.
  struct Returning {
    View dx, stats;
    std::vector<CommHandle> sent;
  };
  struct Passing;  // a step under way
  int passes(int64_t units) const { return static_cast<int>((units + units_per_pass() - 1) / units_per_pass()); }
  int64_t scheduled_units(int64_t own) const;
  PipeSchedule schedule(int passes) const;
  void plan_pipeline(const kn::Exec& dry);
  void place_returning();
  void allocate_slots();
  int64_t slot_bytes(bool batch) const;
  void compute_in_pipeline(const BatchSource& source, int64_t step, RowRange units, StepResult& result,
                           std::vector<UnitLoss>& losses);
  void forward_stage(Slot& slot, int stage, int64_t units, const Passing* passing, const kn::Exec& exec);
  void backward_stage(Slot& slot, int stage, bool whole, const Passing* passing, const kn::Exec& exec);
  void backward_weights(Slot& slot, const kn::Exec& exec);

  const TrainConfig& config_;
  const kn::Exec& exec_;
  Sharding sharding_;
  double expert_load_ = 0;  // Ctx::expert_load
  int64_t part_units_;  // units that one part of an expert's gradients takes: a rank computes whole parts
  std::unique_ptr<Model> model_;
  Arena batch_arena_, step_arena_, optimizer_arena_;
  std::unique_ptr<BatchBuilder> builder_;  // in a pipeline slots have theirs
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Returning> returning_;  // in turns
  size_t next_returning_ = 0;
  Arena returning_arena_;
  // Of the last accumulate(): this rank's losses, and whether gradients are sums over ranks.
  std::vector<UnitLoss> own_losses_;
  bool reduced_ = false;
};

}  // namespace llmctl
