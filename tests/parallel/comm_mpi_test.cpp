// SPDX-License-Identifier: Apache-2.0
// Run by mpirun, every rank the same: CTest has one entry for each number of ranks (label mpi).
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <thread>

#include "comm_checks.h"
#include "parallel/world.h"

using namespace llmctl;

TEST_CASE("mpi: every collective gives the serial result", "[.mpi]") {
  const LaunchEnv env = read_launch_env();
  REQUIRE(env.mpi);
  REQUIRE(engine_for(env, {}) == "mpi");
  REQUIRE_NOTHROW(run_world(env, {.timeout = 60}, [&](Comm& c) {
    check(c.size() == env.world && c.rank() == env.rank, Code::no, "rank ", c.rank(), " of ", c.size());
    check_collectives(c);
    check_counters(c, false);
  }));
}

// The launcher ends all ranks when the first one fails, so each says at once what it saw; CTest looks for
// one rank's line.
static void say(const char* options, double timeout, const std::function<void(Comm&)>& rank_main) {
  try {
    run_world(read_launch_env(), {.engine = "mpi", .timeout = timeout}, rank_main);
    std::printf("%s: no error\n", options);
  } catch (const Error& e) {
    std::printf("exit %d: %s\n", static_cast<int>(e.code), e.what());
  }
  std::fflush(stdout);
  std::this_thread::sleep_for(std::chrono::seconds(1));
}

TEST_CASE("mpi: a rank that gives up ends the others with its words", "[.mpi-gives-up]") {
  say("gives up", 60, [](Comm& c) {
    c.barrier("before");
    check(c.rank() != 1, Code::io, "[disk] full");
    c.barrier("after");
  });
}

TEST_CASE("mpi: a time-out names rank, call, label and step", "[.mpi-time-out]") {
  say("time-out", 0.5, [](Comm& c) {
    c.barrier("before");
    if (c.rank() == 1) std::this_thread::sleep_for(std::chrono::seconds(5));
    c.barrier({"after", 3});
  });
}

// srun -N 2 -n 4 test_parallel "[srun]": the TCP engine, found by Slurm's variables alone.
TEST_CASE("a step of Slurm finds itself", "[.srun]") {
  const LaunchEnv env = read_launch_env();
  REQUIRE((env.source == "slurm" || env.source == "pmi"));  // plain, or with --mpi=pmi2
  REQUIRE_NOTHROW(run_world(env, {.timeout = 60, .connect_timeout = 30}, [&](Comm& c) {
    check(c.size() == env.world && c.rank() == env.rank, Code::no, "rank ", c.rank(), " of ", c.size());
    check_collectives(c);
  }));
}
