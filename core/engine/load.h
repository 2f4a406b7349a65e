// SPDX-License-Identifier: Apache-2.0
// A generation engine over a model folder.
#pragma once

#include <memory>

#include "core/engine/engine.h"
#include "core/models/model.h"

namespace llmctl {

struct EngineOptions {
  int64_t context = 0;      // longest sequence; 0: the model's
  int max_batch = 32;       // requests decoded together
  int64_t step_tokens = 256;  // tokens of one step: all decodes, the rest prefill
  int64_t kv_bytes = 0;     // memory for keys and values; 0: max_batch sequences of full context, at
                            // most 2 GiB
  PanelCacheOptions cache;  // of the model that is loaded
};

// Loads the model and starts the engine's thread. exec's pool is the engine's from here on.
std::unique_ptr<GenerationEngine> make_engine(const fs::path& model, const EngineOptions& options,
                                              const kn::Exec& exec);
// Over a loaded model, which must outlive the engine.
std::unique_ptr<GenerationEngine> make_engine(Model& model, const EngineOptions& options, const kn::Exec& exec);

// One request to its end: the generated ids, without the one that stopped it.
struct Completion {
  std::vector<int32_t> ids;
  Finish finish = Finish::none;
  std::string error;
};
// `each` sees every token as it comes; returning false stops.
Completion complete(GenerationEngine& engine, GenerationRequest request,
                    const std::function<bool(int32_t)>& each = nullptr);

}  // namespace llmctl
