// SPDX-License-Identifier: Apache-2.0
// What the suites over whole models run: training steps, and requests that decode together.
#pragma once

#include <functional>

#include "cmd/bench.h"
#include "core/engine/load.h"
#include "core/train/trainer.h"

namespace llmctl {

// `contract`: gradients in fixed point and a digest each step, else plain fp32 sums and none.
TrainConfig step_config(int64_t sequences, int64_t seq, int64_t units, bool contract);

// The model with so many leaves in every sum (NUMERICS rule 3); 0: its own.
ModelSpec with_leaves(ModelSpec spec, int leaves);

// A trainer, the config it points to, and its steps so far.
struct Stepper {
  Stepper(TrainConfig config, ModelSpec spec, const kn::Exec& exec);
  double step();  // its seconds. Error{interrupted} after SIGINT.
  TrainConfig config;
  MadeUpTokens source;
  Trainer trainer;
  int64_t steps = 0;
};

// How weights are stored for inference.
struct Storage {
  const char* name;
  int bits;  // 0: bf16
  DType products() const { return bits == 0 ? DType::bf16 : DType::i8; }
};
inline constexpr Storage kStorages[] = {{"bf16", 0}, {"int8", 8}, {"int4", 4}};

// A prompt of its own for each salt; greedy; always so many tokens.
GenerationRequest request_of(int64_t prompt, int tokens, int64_t salt);

struct CrowdResult {
  double first_seconds = 0;      // until every request has had its first token
  double tokens_per_second = 0;  // of all of them, from then on
};
// So many requests that decode together, `tokens` tokens each after the first one. `started` is called on
// the engine's thread, between two ops, when all have had their first token.
CrowdResult run_crowd(GenerationEngine& engine, int clients, int64_t prompt, int tokens, int64_t salt,
                      const std::function<void()>& started = nullptr);

// From here on peak_resident_bytes() (core/base/memory.h) counts anew; false where the system cannot.
bool reset_peak_resident();

}  // namespace llmctl
