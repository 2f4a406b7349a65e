// SPDX-License-Identifier: Apache-2.0
#include "core/base/comm_queue.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "kernels/exec.h"

namespace llmctl {

struct CommQueue::State {
  explicit State(Comm& c) : comm(c) {}
  Comm& comm;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void(Comm&)>> work;
  int64_t posted = 0, finished = 0;  // counts of tickets
  double busy = 0;
  std::exception_ptr error;
  bool closing = false;
  std::thread thread;

  void run_one(const std::function<void(Comm&)>& piece) {
    const auto start = std::chrono::steady_clock::now();
    std::exception_ptr failed;
    try {
      piece(comm);
    } catch (...) {
      failed = std::current_exception();
    }
    const std::lock_guard lock(mutex);
    busy += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (failed && !error) error = failed;
    ++finished;
    changed.notify_all();
  }

  void loop() {
    kn::set_denormals_are_zero();  // work may add what it gathered
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return closing || !work.empty(); });
      if (work.empty()) return;
      const std::function<void(Comm&)> piece = std::move(work.front());
      work.pop_front();
      if (error) {
        ++finished;
        changed.notify_all();
        continue;
      }
      lock.unlock();
      run_one(piece);
      lock.lock();
    }
  }
};

CommQueue::CommQueue(Comm& comm) : state_(std::make_unique<State>(comm)) {
  if (comm.size() > 1) state_->thread = std::thread([this] { state_->loop(); });
}

CommQueue::~CommQueue() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->closing = true;
  }
  state_->changed.notify_all();
  if (state_->thread.joinable()) state_->thread.join();
}

CommQueue::Ticket CommQueue::post(std::function<void(Comm&)> work) {
  State& s = *state_;
  if (s.comm.size() == 1) {
    if (!s.error) s.run_one(work);
    return s.posted++;
  }
  const std::lock_guard lock(s.mutex);
  s.work.push_back(std::move(work));
  s.changed.notify_all();
  return s.posted++;
}

void CommQueue::wait(Ticket ticket) {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [&] { return state_->finished > ticket || state_->error; });
  if (state_->error) std::rethrow_exception(state_->error);
}

bool CommQueue::done(Ticket ticket) const {
  const std::lock_guard lock(state_->mutex);
  return state_->finished > ticket;
}

double CommQueue::busy_seconds() const {
  const std::lock_guard lock(state_->mutex);
  return state_->busy;
}

}  // namespace llmctl
