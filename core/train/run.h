// SPDX-License-Identifier: Apache-2.0
// A training run as a folder: run.json, metrics.jsonl, checkpoints/, report.html, events/, and what says
// who may write it and that it lives (lease.h). metrics.h documents the keys of metrics.jsonl.
#pragma once

#include <functional>

#include "core/base/progress.h"
#include "core/train/checkpoint.h"
#include "core/train/trainer.h"

namespace llmctl {

struct RunInputs {
  TrainConfig config;
  Json resolved_config;             // as it will be written
  Json provenance = Json::object();  // command line, build id, digests of inputs
  ModelSpec spec;
  const BatchSource* train = nullptr;
  const BatchSource* validation = nullptr;  // none: no validation
  int64_t validation_units = 0;
  std::function<void(const fs::path&)> extra_model_files;
  fs::path folder;
  Comm* comm = nullptr;  // the ranks that share the run, which make the same call; none: one
  bool resume = false;
  bool take_over = false;  // fence off another start of the run that looks alive
  std::string launch;      // of the supervisor that started us
  int64_t stop_after = 0;  // steps after which to save and stop as if interrupted; 0: never
};

struct RunResult {
  int64_t steps = 0;
  double train_loss = 0, val_loss = 0, tokens_per_second = 0, seconds = 0;
  bool validated = false, interrupted = false;
  std::string digest;  // of the weights after the last step
  fs::path checkpoint;
};

// The axes of so many ranks (parallel.{tp,pp,cp,ep}; dp is what they leave). Error{input} when they do not
// divide.
MeshShape mesh_of(const TrainConfig& config, int ranks);
// How the ranks of a run share its work and its state (parallel.zero): for a plan, and with their groups.
Sharding sharding_of(const TrainConfig& config, int rank, int ranks);
Sharding sharding_of(const TrainConfig& config, const Mesh& mesh);

// Trains to config.schedule.steps. A SIGINT or SIGTERM at any rank saves a checkpoint after the current
// step and sets `interrupted`. Error{usage} when the folder holds a run and neither resume nor overwrite
// was asked for, or while another start of it is alive; Error{device} on all ranks once another start has
// fenced this one off, or when a suspect step comes out otherwise when it is run again (guard.h). The first rank writes the run's files and `log`.
RunResult train_run(const RunInputs& inputs, const kn::Exec& exec, Log& log);

// Mean negative log-likelihood in nats over the targets of `units` units of a source, which ranks share out.
double mean_loss(Model& model, const BatchSource& source, int64_t units, int64_t max_tokens, const kn::Exec& exec,
                 Comm* comm = nullptr);

// Multiply-adds counted as two: 6 per matrix weight and token, plus causal attention.
double training_flops_per_token(const DecoderConfig& config, const Table& table, int64_t seq);
// The machine's measured register peak in FLOP/s for the dtype.
double measure_peak(DType dtype, kn::Bf16Order order, const kn::Exec& exec);

}  // namespace llmctl
