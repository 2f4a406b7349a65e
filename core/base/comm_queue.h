// SPDX-License-Identifier: Apache-2.0
// Communication beside computation: one thread that runs posted pieces of communication in the order
// they were posted, on a group of its own (Comm::split with one color makes one). The order of posting
// is the program's, so it is the same on every rank and no rank can wait for another in a circle.
#pragma once

#include "core/base/comm.h"

namespace llmctl {

class CommQueue {
 public:
  using Ticket = int64_t;
  // `comm` must outlive the queue and is used by its thread alone. In a group of one, post() runs the
  // work at once and no thread is started.
  explicit CommQueue(Comm& comm);
  // Waits for what was posted; errors nobody asked for are dropped.
  ~CommQueue();
  CommQueue(const CommQueue&) = delete;
  CommQueue& operator=(const CommQueue&) = delete;

  // `work` must be safe to run until wait() of its ticket, or of a later one, returned. One posting thread.
  Ticket post(std::function<void(Comm&)> work);
  // Returns when it and all before it are done. Throws the first error met; after one, nothing more is run.
  void wait(Ticket ticket);
  bool done(Ticket ticket) const;
  double busy_seconds() const;  // the thread's time inside work

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace llmctl
