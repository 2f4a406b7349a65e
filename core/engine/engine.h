// SPDX-License-Identifier: Apache-2.0
// The generation engine: requests in, tokens out. Every running request advances by one token per
// step in one batch; prompts are prefilled in pieces between steps. A request's tokens do not
// depend on what else runs (NUMERICS rules 10 and 21).
//
// Threads: submit, cancel and stats may be called from any thread. Sinks are called on the engine
// thread, in order for one request; they must be quick and must not call the engine.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace llmctl {

struct Sampling {
  int max_tokens = 16;
  float temperature = 1.0f;  // 0 is greedy; ties go to the lowest id
  float top_p = 1.0f;
  int top_k = 0;  // 0: all
  float min_p = 0.0f;
  float presence_penalty = 0.0f, frequency_penalty = 0.0f, repetition_penalty = 1.0f;
  int64_t seed = 0;
  int choice = 0;  // index among n choices: part of the sampling key
  std::map<int32_t, float> logit_bias;
  bool ignore_eos = false;
  int min_tokens = 0;
  int top_logprobs = -1;          // >= 0: report log-probabilities and so many alternatives
  bool prompt_logprobs = false;   // report them for the prompt too (echo)
};

enum class Finish : uint8_t { none, stop, length, cancelled, failed };

struct TokenOut {
  int32_t id = -1;
  bool from_prompt = false;  // echo of prompt tokens when prompt_logprobs is set
  float logprob = 0.0f;
  std::vector<std::pair<int32_t, float>> top;
  Finish finish = Finish::none;  // set on the last event; then id may be -1 (no token)
  std::string error;             // with Finish::failed
};

struct GenerationRequest {
  std::vector<int32_t> prompt;
  Sampling sampling;
  std::vector<int32_t> stop_ids;  // beside the model's eos
  // Returns false to stop the request early (client gone, stop string found).
  std::function<bool(const TokenOut&)> sink;
};

struct EngineStats {
  uint64_t prompt_tokens = 0, generated_tokens = 0, requests = 0, steps = 0, cached_tokens = 0;
  int running = 0, waiting = 0;
  int64_t kv_pages_used = 0, kv_pages_total = 0;
  int64_t bytes = 0;  // mapped for keys and values and for a step, beside the model's
};

class GenerationEngine {
 public:
  virtual ~GenerationEngine() = default;
  // Queues a request and returns its id. Throws Error{input} for an empty prompt, ids out of range
  // or a prompt longer than context(), before anything is queued.
  virtual uint64_t submit(GenerationRequest request) = 0;
  virtual void cancel(uint64_t id) = 0;
  virtual EngineStats stats() const = 0;
  virtual int64_t context() const = 0;
  virtual int64_t vocab_size() const = 0;
  virtual std::vector<int32_t> eos_ids() const = 0;
};

}  // namespace llmctl
