// SPDX-License-Identifier: Apache-2.0
// Ranks on this machine, kept running: `llmctl launch local`.
//
// A world is N processes of `llmctl train` that meet over TCP on loopback. When one dies, or no heartbeat
// of the run (lease.h) tells of progress for hang_timeout seconds, the world is stopped and started again
// from the last complete checkpoint, after a pause that doubles each time. Restarts are counted until a
// newer checkpoint is there. An error that another try would meet again (exit codes 1 to 5) is final.
// Elastic: a rank that is the cause twice in a row without a new checkpoint is given up, and the world
// goes on with one rank fewer - with the same bits, as any layout has.
#pragma once

#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/base/progress.h"

namespace llmctl {

struct SupervisorOptions {
  std::string program;             // path of llmctl
  std::vector<std::string> train;  // arguments of `llmctl train`, without --ranks
  fs::path run;
  int ranks = 1, least_ranks = 1;
  int max_restarts = 3;  // without progress
  double backoff = 1;    // seconds before the first restart
  double hang_timeout = 600;  // 0: never
  bool elastic = false;
};

struct SupervisorResult {
  int code = 0;       // the exit status: 0, 130, or the world's last
  int ranks = 0;      // of the last world
  int restarts = 0;   // in all
  std::string job;    // the name of this launch, in lease.json
  std::string state;  // done, interrupted, gave up
  std::string why;    // when it gave up, one line without a dot
  std::string output; // of rank 0 of the last world
};

// SIGINT and SIGTERM are passed on once and end it with 130 when the ranks have saved. Error{io} when
// processes cannot be started.
SupervisorResult supervise(const SupervisorOptions& options, Log& log);

// The environment of one rank, but for the token.
std::vector<std::pair<std::string, std::string>> rank_environment(int rank, int ranks, int port, const std::string& job, int restart);

}  // namespace llmctl
