// SPDX-License-Identifier: Apache-2.0
// Between a save that runs beside training and the optimiser: masters and moments change in updates only,
// so a save needs no copy of them if the update of a weight waits until that weight is written. Weights are
// written in the order in which they are updated, and the first updates of a step come after its forward
// and backward: as a rule nothing waits.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <limits>
#include <mutex>

namespace llmctl {

class SaveGate {
 public:
  // A save begins: no weight may change. By the training thread, before the writer's begins.
  void close() { set(0); }
  // The first `count` weights are written.
  void release(size_t count) { set(count); }
  // The save needs no weight any more, or has failed.
  void open() { set(kAll); }

  // Before weight number `weight` changes. By the training thread.
  void wait(size_t weight) {
    std::unique_lock lock(mutex_);
    if (weight < released_) return;
    const auto start = std::chrono::steady_clock::now();
    moved_.wait(lock, [&] { return weight < released_; });
    blocked_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  // Seconds spent in wait(). Of the training thread.
  double blocked() const { return blocked_; }

 private:
  static constexpr size_t kAll = std::numeric_limits<size_t>::max();
  void set(size_t released) {
    const std::lock_guard lock(mutex_);
    released_ = released;
    moved_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable moved_;
  size_t released_ = kAll;
  double blocked_ = 0;
};

}  // namespace llmctl
