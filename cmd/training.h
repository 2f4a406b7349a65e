// SPDX-License-Identifier: Apache-2.0
// From a training config to what core/train runs: the loader of the data room, the model's spec, the
// tokenizer beside the model. Shared by train, reproduce and demo.
#pragma once

#include <memory>

#include "cmd/flags.h"
#include "core/train/run.h"
#include "data/packed/loader.h"

namespace llmctl {

// Owns everything that `inputs` points to.
struct TrainingJob {
  std::unique_ptr<PackedSource> train;
  std::unique_ptr<SequentialSource> validation;
  RunInputs inputs;
};

// Opens the data and checks it against the model: Error{input} when the tokens were made by another
// tokenizer or do not fit the vocabulary. `resolved` is the config as it will stand in run.json.
std::unique_ptr<TrainingJob> make_training_job(const TrainConfig& config, const Json& resolved,
                                               const fs::path& folder, const Common& common);
// The spec of the model that a config describes, or of config.init's folder.
ModelSpec training_spec(const TrainConfig& config);
// The config of a run folder, with the paths that run.json names.
TrainConfig config_of_run(const fs::path& run);
Json result_json(const fs::path& run, const RunResult& r);

}  // namespace llmctl
