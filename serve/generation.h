// SPDX-License-Identifier: Apache-2.0
// One chat completion or completion in flight: prompts x n choices in the engine, one reply to the
// client, whole or as server-sent events. A client that leaves cancels all of it.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "serve/call.h"
#include "serve/choice_text.h"
#include "serve/http.h"
#include "serve/metrics.h"
#include "serve/shapes.h"
#include "serve/token_queue.h"

namespace llmctl::serve {

struct ServedModel {
  std::string name;
  std::shared_ptr<GenerationEngine> engine;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string fingerprint;  // of the weights and the numerics version; "" when unknown
  int64_t created = 0;      // Unix seconds
};

class Generation final : public PendingReply {
 public:
  // Encodes the prompts and checks lengths: ApiError{400}. metrics must outlive this.
  Generation(GenerationCall call, const ServedModel& model, Metrics& metrics);
  ~Generation() override { abandon(); }
  // Queues every choice. When one is refused the others are cancelled: ApiError or Error.
  void submit();
  int64_t seed() const { return seed_; }

  void attach(std::function<void()> wake) override { queue_->attach(std::move(wake)); }
  bool advance(std::string& out) override;
  int status() const override { return error_.empty() ? 200 : 500; }
  void abandon() override;

 private:
  struct Choice {
    Choice(const Tokenizer& tokenizer, const GenerationCall& call, size_t of_prompt)
        : prompt(of_prompt), text(tokenizer, call.stop, call.sampling.min_tokens) {}
    size_t prompt = 0;
    uint64_t id = 0;  // the engine's
    bool submitted = false, open = true;
    bool begun = false, closed = false;  // its first and its last chunk were made
    ChoiceText text;
    std::string finish;
    int64_t generated = 0;
    std::chrono::steady_clock::time_point last;
  };
  std::vector<int32_t> encode(const Prompt& prompt) const;
  void add_prompt(std::vector<int32_t> ids);
  void echo_prompt(Choice& choice);
  GenerationRequest request_for(size_t choice) const;
  void absorb(const TokenEvent& event);
  void count_token(Choice& choice, std::chrono::steady_clock::time_point when);
  void end_choice(size_t index, const std::string& finish);
  bool ends_turn(int32_t id) const;
  bool done() const { return open_ == 0 || !error_.empty(); }
  ChoiceShape shape_of(size_t index);
  void write_chunks(std::string& out);
  std::string whole_reply();
  Usage usage() const;

  GenerationCall call_;
  ServedModel model_;
  Metrics& metrics_;
  ReplyHead head_;
  int64_t seed_ = 0;
  std::vector<int32_t> end_ids_, stop_ids_;
  std::vector<std::vector<int32_t>> prompts_;
  std::vector<int64_t> max_tokens_;  // per prompt
  std::vector<Choice> choices_;
  std::shared_ptr<TokenQueue> queue_;
  size_t open_ = 0;
  std::string error_;
  std::chrono::steady_clock::time_point start_;
  bool ended_ = false;
};

}  // namespace llmctl::serve
