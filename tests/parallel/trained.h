// SPDX-License-Identifier: Apache-2.0
// Steps on ranks that are threads, and what they came to: what tests of layouts share.
#pragma once

#include <catch2/catch.hpp>
#include <array>
#include <cstring>
#include <mutex>

#include "core/train/run.h"
#include "parallel/thread_world.h"
#include "tests/core/tiny_model.h"
#include "tests/scratch.h"

namespace llmctl::test {

using Trace = std::vector<std::string>;  // of a rank, a line a step

inline std::string line_of(const StepResult& r) {
  uint64_t loss, norm;
  std::memcpy(&loss, &r.loss, 8);
  std::memcpy(&norm, &r.grad_norm, 8);
  std::string tensors;
  for (const TensorDigest& t : r.tensors) tensors += t.weights.hex().substr(0, 4);
  return std::to_string(loss) + " " + std::to_string(norm) + " " + std::to_string(r.tokens) + " " +
         std::to_string(r.targets) + " " + r.batch.hex() + " " + r.gradient.hex() + " " + r.weights.hex() + " " + tensors;
}

// Steps [from, to), from the newest checkpoint in `folder` if from > 0; one is saved there at the end when save is set.
struct Stretch {
  int64_t from = 0, to = 1;
  fs::path folder = {};
  bool save = false;
};

struct Trained {
  Trace trace;  // the same of every rank
  std::vector<std::array<CommCounts, kAxes>> sent;  // by rank, in its group along each axis: of the steps
};

inline Trained train_on(int ranks, int threads, const Json& hf, const TrainConfig& config, const Stretch& steps) {
  Trained out;
  out.sent.resize(static_cast<size_t>(ranks));
  std::mutex mutex;
  std::vector<Trace> traces;
  run_threads(ranks, 120, [&](Comm& comm) {
    Machine machine(threads);
    const CountedTokens source(config.unit.sequences, config.unit.seq_len, 131);
    const Mesh mesh(comm, mesh_of(config, comm.size()));
    Trainer trainer(config, tiny_spec(hf, config), machine.exec, sharding_of(config, mesh));
    trainer.allocate();
    if (steps.from > 0)
      load_checkpoint(steps.folder / "checkpoints" / ("step-" + std::to_string(steps.from)), trainer.model(), machine.exec);
    else
      trainer.model().initialise(config.seed);
    for (int a = 0; a < kAxes; ++a) mesh.group(static_cast<Axis>(a)).reset_counts();
    Trace trace;
    for (int64_t s = steps.from; s < steps.to; ++s) trace.push_back(line_of(trainer.step(source, s)));
    if (steps.save) save_checkpoint(steps.folder, trainer.model(), {steps.to, 0, "counted", ""}, 0, nullptr);
    const std::lock_guard lock(mutex);
    traces.push_back(trace);
    for (size_t a = 0; a < kAxes; ++a)
      out.sent[static_cast<size_t>(comm.rank())][a] = mesh.group(static_cast<Axis>(a)).counts();
  });
  REQUIRE(traces.size() == static_cast<size_t>(ranks));
  for (const Trace& t : traces) CHECK(t == traces.front());
  out.trace = traces.front();
  return out;
}

}  // namespace llmctl::test
