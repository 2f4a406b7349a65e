// SPDX-License-Identifier: Apache-2.0
// What an engine costs: test_parallel "[comm-bench]", and under mpirun -n 2 "[mpi-bench]".
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdio>

#include "parallel/group_comm.h"
#include "parallel/tcp_transport.h"
#include "parallel/thread_world.h"
#include "parallel/world.h"

using namespace llmctl;

namespace {

double seconds_each(int times, const std::function<void()>& work) {
  work();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < times; ++i) work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / times;
}

// Bandwidth: bytes of the reduced array by time, as a trainer sees it.
void measure(Comm& c, const char* engine) {
  const double barrier = seconds_each(2000, [&] { c.barrier("bench"); });
  std::string line = std::string(engine) + " at " + std::to_string(c.size()) + " ranks: barrier " +
                     std::to_string(barrier * 1e6).substr(0, 5) + " us";
  for (const size_t kib : {8, 256, 4096, 65536}) {
    std::vector<int64_t> v(kib * 128, 1);
    const int times = static_cast<int>(std::max<size_t>(5, 65536 / kib / 4));
    const double s = seconds_each(std::min(times, 1000), [&] { c.all_reduce(v, CommOp::sum, "bench"); });
    line += ", all_reduce " + std::to_string(kib) + " KiB " +
            std::to_string(static_cast<double>(kib) * 1024 / s / 1e9).substr(0, 5) + " GB/s";
  }
  if (c.rank() == 0) std::printf("%s\n", line.c_str());
  c.barrier("end");
}

}  // namespace

TEST_CASE("threads and tcp: barrier and all_reduce", "[.comm-bench]") {
  for (const int ranks : {2, 4}) {
    std::fflush(stdout);
    int port = 0;
    Socket listener = listen_on(&port, "127.0.0.1");
    for (int r = 0; r < ranks; ++r) {
      if (::fork() != 0) continue;
      const TcpOptions o{{"127.0.0.1", port}, r, ranks, "bench"};
      measure(*GroupComm::world(tcp_transport(o, r == 0 ? meet(o, std::move(listener)) : meet(o)), 60),
              "tcp");
      std::fflush(stdout);
      ::_exit(0);
    }
    while (::wait(nullptr) > 0) {
    }
    run_threads(ranks, 60, [](Comm& c) { measure(c, "threads"); });
  }
}

TEST_CASE("mpi: barrier and all_reduce", "[.mpi-bench]") {
  run_world(read_launch_env(), {.engine = "mpi", .timeout = 60}, [](Comm& c) { measure(c, "mpi"); });
}
