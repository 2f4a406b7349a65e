// SPDX-License-Identifier: Apache-2.0
// Who may write a run's folder. Every start of a run takes the next epoch; what an older epoch had not
// published by then it never will, however long it was stopped and wherever.
//
//   RUN/.epoch-N/        the staging folder of epoch N: whatever N makes is made here first; owner: who
//   RUN/lease.json       epoch, host, pid, process (tells a pid that was used again), world, started, launch,
//                        ended (null while it runs)
//   RUN/heartbeat.json   epoch, time, step (done), steps, state, changed (when step or state last did),
//                        tokens_per_second: renewed every two seconds by the first rank
//
// Why no clock and no pause can break it. (1) An epoch is taken by renaming a folder to the name of its
// staging folder, which one process wins; whoever then sees a higher number steps back, and who has a higher number fences whatever
// it sees below: of two that overlap, the later rename sees the earlier folder. (2) A thing appears in the
// run only by rename out of the staging folder, and leaves it (an old checkpoint) only by rename into it.
// (3) Fencing renames the staging folder away and empties it. So there is no moment between a check and a
// write: either the rename came first, and the newer epoch, which looks at the checkpoints only after it
// fenced, finds the thing there; or the source is gone and the rename fails. A process that was asleep in
// between wakes into that error. metrics.jsonl is a new inode in each epoch, made by such a rename: what an
// older epoch appends goes to a file that has no name.
// Needs a file system whose renames are atomic among the hosts that mount it (POSIX: local, NFS,
// Lustre, GPFS), and checkpoints on that of the run.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "core/base/file.h"
#include "core/base/json.h"

namespace llmctl {

struct LeaseOptions {
  bool take_over = false;  // although the run looks alive
  int world = 1;
  std::string launch;   // of the supervisor that started us, "" without one
  double fresh = 30;    // seconds without a sign of life after which a run counts as dead
  double beat = 2;      // seconds between heartbeats, 0: none
};

struct Beat {
  int64_t step = 0, steps = 0;  // done, of all
  std::string state = "starting";  // starting, training, validating, saving
  double tokens_per_second = 0;
};

// Held by the first rank. One thread, but for the heartbeat's own.
class RunLease {
 public:
  // Takes the next epoch of a run, whose folder is made if need be. Error{usage} while another start is
  // alive, unless take_over: its process exists (same machine), or its last sign of life is fresh.
  RunLease(const fs::path& run, const LeaseOptions& options);
  // Ends the lease where it is still ours: the next start need not wait.
  ~RunLease();
  RunLease(const RunLease&) = delete;
  RunLease& operator=(const RunLease&) = delete;

  int64_t epoch() const { return epoch_; }
  // Where things are made. Make no parents in it (create_directory, not create_directories): once it is
  // gone it stays so.
  const fs::path& staging() const { return staging_; }
  // Error{device} once a newer epoch has begun: to stop early; nothing depends on it.
  void check_held() const;
  // Renames what lies at staging()/name to `to`, and what was there into the staging folder, where it is
  // removed. Error{device} when a newer epoch has begun.
  void publish(const std::string& name, const fs::path& to, bool flush = true);
  // Takes a file or folder out of the run. Error{device}.
  void remove(const fs::path& what);
  // A file of the run, whole or not at all; flushed to disk unless it is not worth that.
  void write(const std::string& name, const std::string& text, bool flush = true);
  // The next heartbeat says so.
  void beat(const Beat& beat);

 private:
  void refuse_if_alive(const LeaseOptions& options) const;
  void take(const LeaseOptions& options);
  void fence_older();
  [[noreturn]] void lost() const;
  void write_beat();
  void beat_forever(double seconds);

  fs::path run_, staging_;
  int64_t epoch_ = 0;
  uint64_t inode_ = 0;  // of staging_
  Json lease_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool done_ = false;
  Beat beat_;
  double changed_ = 0;
  std::thread beating_;
};

std::string host_name();

// lease.json and heartbeat.json as they stand, null when absent or malformed.
Json read_lease(const fs::path& run);
Json read_heartbeat(const fs::path& run);

}  // namespace llmctl
