// SPDX-License-Identifier: Apache-2.0
// The generation engine over one model: paged keys and values, one batch per step, prompts taken in
// pieces so that running requests never wait for a long one. All arithmetic happens on one thread
// (and its pool).
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "core/engine/load.h"
#include "core/engine/sampler.h"

namespace llmctl {

class PagedEngine final : public GenerationEngine {
 public:
  PagedEngine(Model& model, const EngineOptions& options, const kn::Exec& exec);
  ~PagedEngine() override;

  uint64_t submit(GenerationRequest request) override;
  void cancel(uint64_t id) override;
  EngineStats stats() const override;
  int64_t context() const override { return context_; }
  int64_t vocab_size() const override { return model_.spec().config.vocab; }
  std::vector<int32_t> eos_ids() const override { return model_.spec().eos_ids; }

 private:
  struct Sequence {
    uint64_t id = 0;
    GenerationRequest request;
    std::vector<int32_t> tokens;  // prompt and what was generated
    std::vector<int32_t> pages;
    int64_t cached = 0;  // tokens whose keys and values are in pages
    TokenCounts counts;
    bool done = false;
  };
  // A row of the step whose logits are needed: the next token of `sequence`, or prompt
  // log-probabilities of the token at `position`.
  struct WantedRow {
    Sequence* sequence;
    int32_t row;
    int64_t position;  // of the token that the logits predict
    bool sample;
  };
  struct StepBuffers {
    View ids, positions, slots, sequences, page_table;
    View hidden, picked, index, logits, loss, lse, targets;
    View logits_out, lse_out;  // on the host: the same views on a CPU
  };

  void place(const kn::Exec& exec);
  void loop();
  void admit();
  void retire();
  void step();
  void add_rows(Sequence& s, int64_t count, std::vector<WantedRow>& wanted);
  void emit(const std::vector<WantedRow>& wanted, const TokenBatch& batch);
  void emit_row(const WantedRow& w, float* logits, float lse);
  void finish(Sequence& s, TokenOut out);
  void describe(const WantedRow& w, const float* logits, float lse, int32_t id, TokenOut& out) const;
  int64_t pages_for(const GenerationRequest& r) const;

  Model& model_;
  const kn::Exec& exec_;
  EngineOptions options_;
  int64_t context_, page_count_, logit_rows_;
  Arena kv_arena_, arena_, inputs_, results_;
  std::vector<kn::KvPages> cache_;
  StepBuffers buffers_;
  TokenBatch batch_;
  int64_t batch_rows_ = 0, batch_sequences_ = 0, batch_pages_ = 0;
  std::vector<int32_t> free_pages_;
  Sampler sampler_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;
  std::vector<uint64_t> cancelled_;
  EngineStats stats_;
  uint64_t next_id_ = 1;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace llmctl
