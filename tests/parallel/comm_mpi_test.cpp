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

TEST_CASE("mpi: a rank that gives up ends the others with its words", "[.mpi-gives-up]") {
  std::string text;
  try {
    run_world(read_launch_env(), {.engine = "mpi", .timeout = 60}, [](Comm& c) {
      c.barrier("before");
      check(c.rank() != 1, Code::io, "[disk] full");
      c.barrier("after");
    });
  } catch (const Error& e) {
    text = e.what();
  }
  CAPTURE(text);
  CHECK((text == "[disk] full" ||
         text.find("barrier 'after' in group world: rank 1 gave up: [disk] full") != text.npos));
  // The launcher ends who is late: leave the others the time to say so.
  std::this_thread::sleep_for(std::chrono::seconds(1));
}

TEST_CASE("mpi: a time-out names rank, call, label and step", "[.mpi-time-out]") {
  std::string text;
  try {
    run_world(read_launch_env(), {.engine = "mpi", .timeout = 0.5}, [](Comm& c) {
      c.barrier("before");
      if (c.rank() == 1) std::this_thread::sleep_for(std::chrono::seconds(2));
      c.barrier({"after", 3});
    });
  } catch (const Error& e) {
    text = e.what();
  }
  CAPTURE(text);
  CHECK((text.find("barrier 'after' step 3 in group world: nothing came for 0.5 s; missing: rank 1") !=
             text.npos ||
         text.find("gave up: [comm] rank ") != text.npos));
  std::this_thread::sleep_for(std::chrono::seconds(3));
}
