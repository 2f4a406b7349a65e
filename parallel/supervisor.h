// SPDX-License-Identifier: Apache-2.0
// Ranks on this machine, kept running: `llmctl launch local`.
//
// A world is N processes of `llmctl train` that meet over TCP on loopback. When one dies, or no heartbeat
// of the run (lease.h) tells of progress for hang_timeout seconds, the world is stopped and started again
// from the last complete checkpoint, after a pause that doubles each time. Restarts are counted until a
// newer checkpoint is there. An error that another try would meet again (exit codes 1 to 5) is final.
// Elastic: the world has the largest number of ranks that there is room for (capacity.h) and that train's
// layout divides into, with the same bits as any other. A rank that is the cause twice in a row without a
// new checkpoint gives its place up. When there is room for a larger world, or for this one no more, the
// ranks are told as before a time limit: they end their step, save, and start again as the other world.
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
  fs::path slots;      // elastic: the file that says how many ranks there is room for, "" for none
  double regrow = 300;  // elastic: seconds after which the place of a rank that was given up is tried again, 0: never
};

struct SupervisorResult {
  int code = 0;       // the exit status: 0, 130, or the world's last
  int ranks = 0;      // of the last world
  int restarts = 0;   // in all, after failures
  int resizes = 0;    // in all, worlds told to make way for a larger or smaller one
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
