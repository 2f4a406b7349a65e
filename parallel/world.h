// SPDX-License-Identifier: Apache-2.0
// From "who am I" to the group of all ranks, on the engine that is there.
#pragma once

#include <functional>

#include "core/base/comm.h"
#include "parallel/launch_env.h"

namespace llmctl {

struct WorldOptions {
  // threads: `ranks` threads of this process, whatever started it. tcp. mpi. auto: one rank alone needs
  // none; mpi where an MPI launcher started us and its library opens; else tcp.
  std::string engine = "auto";
  int ranks = 1;                // of threads
  double timeout = 600;         // seconds of waiting for one message
  double connect_timeout = 60;  // seconds until all ranks must have come
  double silence = 10;          // tcp: seconds without a sign of life after which a peer counts as dead
  std::string token;            // tcp; empty: LLMCTL_COMM_TOKEN, else the job's id
};

// Calls rank_main with the world: once, or in `ranks` threads. When it throws, the other ranks are told
// (Comm::abandon) and the error goes on. Errors of its own: Error{usage} for an engine that does not go
// with how we were started, Error{unsupported} for one this machine lacks, Error{device}.
void run_world(const LaunchEnv& env, const WorldOptions& options,
               const std::function<void(Comm&)>& rank_main);

// The engine that `auto` means here.
std::string engine_for(const LaunchEnv& env, const WorldOptions& options);

}  // namespace llmctl
