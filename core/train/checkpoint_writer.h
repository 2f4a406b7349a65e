// SPDX-License-Identifier: Apache-2.0
// Checkpoints written beside training: start() returns at once, a thread writes while the next step's
// forward and backward run, and the gate holds updates of what is not written yet (save_gate.h). One save
// at a time; on a GPU, or where asked to, start() returns when it is done.
//
// Errors: a save fails on all ranks alike, with the first failing rank's one line. Training goes on until
// wait() or the next start(), which throw it on all; failed() tells one rank that this is due.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "core/train/checkpoint.h"

namespace llmctl {

struct SaveTimes {
  int64_t step = 0;
  double seconds = 0;  // from start to DONE
  double blocked = 0;  // of these this rank's training waited
};

class CheckpointWriter {
 public:
  // Collective: the saves' own group is split from `ranks`. `exec` is the model's.
  CheckpointWriter(Comm& ranks, const kn::Exec& exec, bool asynchronous);
  // Waits for the save under way; its error is dropped.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  using Save = std::function<void(const BesideTraining&)>;
  // Waits for the save before. Until the save is done nothing that it reads changes but behind gate().
  // Collective.
  void start(int64_t step, Save save);
  // Waits for the save under way, if there is one. Collective.
  void wait();
  bool failed() const { return failed_.load(); }
  // Seconds that the last save has held up this rank's training so far.
  double blocked() const { return blocked_ + gate_.blocked() - blocked_before_; }
  // Of the last save, once, when it is done.
  std::optional<SaveTimes> done();
  SaveGate& gate() { return gate_; }

 private:
  void write(const Save& save);
  void join();
  const std::unique_ptr<Comm> comm_;
  const bool asynchronous_;
  kn::ThreadPool pool_{1};
  kn::Exec exec_;
  SaveGate gate_;
  std::thread thread_;
  std::atomic<bool> failed_{false}, ended_{false};
  std::optional<Error> error_;  // the writer's until it ended
  std::optional<SaveTimes> times_;
  double blocked_ = 0, blocked_before_ = 0;  // of the last save, but at the gate; at the gate, before it
};

}  // namespace llmctl
