// SPDX-License-Identifier: Apache-2.0
// Tokens from the engine's thread to a connection's. The engine's sinks share it, so it may outlive
// the request; once closed it takes nothing and wakes nobody.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "core/engine/engine.h"

namespace llmctl::serve {

struct TokenEvent {
  size_t choice = 0;
  TokenOut token;
  std::chrono::steady_clock::time_point time;
};

class TokenQueue {
 public:
  // eager: the connection looks at every token (a stream, a stop string); else it is woken when a
  // choice ends, which spares both threads a switch per token.
  TokenQueue(size_t choices, bool eager) : wanted_(choices, true), eager_(eager) {}

  // Any thread. False when nobody wants this choice's tokens any more.
  bool push(size_t choice, const TokenOut& token) {
    const std::lock_guard lock(mutex_);
    if (closed_ || !wanted_[choice]) return false;
    events_.push_back({choice, token, std::chrono::steady_clock::now()});
    if (wake_ && (eager_ ? events_.size() == 1 : token.finish != Finish::none)) wake_();
    return true;
  }
  std::vector<TokenEvent> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(events_, {});
  }
  void attach(std::function<void()> wake) {
    const std::lock_guard lock(mutex_);
    wake_ = std::move(wake);
  }
  void refuse(size_t choice) {
    const std::lock_guard lock(mutex_);
    wanted_[choice] = false;
  }
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    wake_ = nullptr;
    events_.clear();
  }

 private:
  std::mutex mutex_;
  std::vector<TokenEvent> events_;
  std::vector<bool> wanted_;
  std::function<void()> wake_;
  bool eager_, closed_ = false;
};

}  // namespace llmctl::serve
