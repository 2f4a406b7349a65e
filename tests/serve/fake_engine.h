// SPDX-License-Identifier: Apache-2.0
// A GenerationEngine without a model: it writes the prompt again and again, token by token, all
// running requests in one step. Slow on request, so that tests can leave in the middle.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>
#include <thread>

#include "core/engine/engine.h"
#include "kernels/error.h"

namespace llmctl::test {

class FakeEngine final : public GenerationEngine {
 public:
  struct Options {
    int64_t context = 4096, vocab = 259;
    int eos = 258;
    std::chrono::microseconds step{0};
    int32_t fail_on = -1;  // a prompt with this id fails after its second token
  };
  FakeEngine() : FakeEngine(Options{}) {}
  explicit FakeEngine(Options o) : options_(o), thread_([this] { loop(); }) {}
  ~FakeEngine() override {
    {
      const std::lock_guard lock(mutex_);
      quit_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  uint64_t submit(GenerationRequest request) override {
    check(!request.prompt.empty(), Code::input, "[engine] the prompt is empty");
    const std::lock_guard lock(mutex_);
    running_.push_back({++last_id_, std::move(request)});
    stats_.requests++;
    stats_.prompt_tokens += running_.back().request.prompt.size();
    changed_.notify_all();
    return last_id_;
  }
  void cancel(uint64_t id) override {
    const std::lock_guard lock(mutex_);
    for (auto& r : running_)
      if (r.id == id) r.cancelled = true;
  }
  EngineStats stats() const override {
    const std::lock_guard lock(mutex_);
    EngineStats s = stats_;
    s.running = static_cast<int>(running_.size());
    return s;
  }
  int64_t context() const override { return options_.context; }
  int64_t vocab_size() const override { return options_.vocab; }
  std::vector<int32_t> eos_ids() const override { return {options_.eos}; }
  int cancelled() const { return cancelled_; }
  int widest_batch() const { return widest_; }

 private:
  struct Running {
    uint64_t id = 0;
    GenerationRequest request;
    int made = 0;
    bool cancelled = false, prompt_told = false;
  };

  void loop() {
    std::unique_lock lock(mutex_);
    while (!quit_) {
      if (running_.empty()) {
        changed_.wait(lock);
        continue;
      }
      widest_ = std::max(widest_.load(), static_cast<int>(running_.size()));
      for (auto it = running_.begin(); it != running_.end();)
        it = advance(*it) ? std::next(it) : running_.erase(it);
      stats_.steps++;
      lock.unlock();
      if (options_.step.count() > 0) std::this_thread::sleep_for(options_.step);
      lock.lock();
    }
  }

  bool tell_prompt(Running& r) {
    r.prompt_told = true;
    for (size_t i = 1; i < r.request.prompt.size(); ++i) {  // nothing predicts the first
      TokenOut t = token(r, r.request.prompt[i]);
      t.from_prompt = true;
      if (!r.request.sink(t)) return false;
    }
    return true;
  }
  static TokenOut token(const Running& r, int32_t id) {
    TokenOut t;
    t.id = id;
    t.logprob = -0.5f;
    for (int k = 0; k < r.request.sampling.top_logprobs; ++k)
      t.top.emplace_back(k == 0 ? id : (id + k) % 256, -0.5f - static_cast<float>(k));
    return t;
  }

  // False when the request is over.
  bool advance(Running& r) {
    const Sampling& s = r.request.sampling;
    TokenOut last;
    if (r.cancelled) {
      ++cancelled_;
      last.finish = Finish::cancelled;
      r.request.sink(last);
      return false;
    }
    if (s.prompt_logprobs && !r.prompt_told && !tell_prompt(r)) return false;
    if (s.max_tokens == 0) {
      last.finish = Finish::length;
      r.request.sink(last);
      return false;
    }
    const auto& p = r.request.prompt;
    TokenOut t = token(r, p[static_cast<size_t>(r.made) % p.size()]);
    if (t.id == options_.fail_on && r.made > 0) {
      last.finish = Finish::failed;
      last.error = "[engine] asked to fail";
      r.request.sink(last);
      return false;
    }
    ++r.made;
    stats_.generated_tokens++;
    bool is_end = t.id == options_.eos && !s.ignore_eos;
    for (const int32_t id : r.request.stop_ids) is_end |= id == t.id;
    if (is_end)
      t.finish = Finish::stop;
    else if (r.made >= s.max_tokens)
      t.finish = Finish::length;
    return r.request.sink(t) && t.finish == Finish::none;
  }

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Running> running_;
  EngineStats stats_;
  uint64_t last_id_ = 0;
  bool quit_ = false;
  std::atomic<int> cancelled_{0}, widest_{0};
  std::thread thread_;
};

}  // namespace llmctl::test
