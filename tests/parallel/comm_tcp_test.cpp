// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <thread>

#include "../scratch.h"
#include "comm_checks.h"
#include "parallel/group_comm.h"
#include "parallel/tcp_link.h"
#include "parallel/tcp_transport.h"

using namespace llmctl;

namespace {

struct TcpCase {
  double timeout = 60, silence = 10, connect_timeout = 20;
  std::function<void(int rank, TcpOptions&)> change = [](int, TcpOptions&) {};  // of one rank's options
  std::vector<int> absent;
};

// Each rank a thread with sockets of its own; what each threw, as "code text".
std::vector<std::string> tcp_threads(int ranks, const TcpCase& c,
                                     const std::function<void(Comm&)>& rank_main) {
  int port = 0;
  Socket listener = listen_on(&port, "127.0.0.1");
  std::vector<std::string> errors(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    if (std::count(c.absent.begin(), c.absent.end(), r)) continue;
    threads.emplace_back([&, r] {
      try {
        TcpOptions o{{"127.0.0.1", port}, r, ranks, "secret", c.connect_timeout, c.silence};
        c.change(r, o);
        auto transport = tcp_transport(o, r == 0 ? meet(o, std::move(listener)) : meet(o));
        try {
          rank_main(*GroupComm::world(transport, c.timeout));
        } catch (const Error& e) {
          transport->abandon(e.what());
          throw;
        }
      } catch (const Error& e) {
        errors[static_cast<size_t>(r)] = std::to_string(static_cast<int>(e.code)) + " " + e.what();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  return errors;
}

struct Ended {
  int status = 0;
  double seconds = 0;
  std::string text;
};

// Each rank a process; `parent` runs beside them with their pids. How each ended, and what it wrote.
std::vector<Ended> tcp_processes(int ranks, const TcpCase& c, const std::function<void(Comm&)>& rank_main,
                                 const std::function<void(const std::vector<pid_t>&)>& parent) {
  int port = 0;
  Socket listener = listen_on(&port, "127.0.0.1");
  const ScratchFolder scratch;
  std::vector<pid_t> pids;
  for (int r = 0; r < ranks; ++r) {
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid > 0) {
      pids.push_back(pid);
      continue;
    }
    int code = 0;
    try {
      TcpOptions o{{"127.0.0.1", port}, r, ranks, "secret", c.connect_timeout, c.silence};
      rank_main(
          *GroupComm::world(tcp_transport(o, r == 0 ? meet(o, std::move(listener)) : meet(o)), c.timeout));
    } catch (const Error& e) {
      scratch.put(std::to_string(r), e.what());
      code = static_cast<int>(e.code);
    }
    ::_exit(code);
  }
  listener = Socket();
  parent(pids);
  const auto start = std::chrono::steady_clock::now();
  std::vector<Ended> ends(pids.size());
  for (size_t i = 0; i < pids.size(); ++i) {
    int status = 0;
    const pid_t pid = ::wait(&status);
    const auto r = static_cast<size_t>(std::find(pids.begin(), pids.end(), pid) - pids.begin());
    ends[r].status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    ends[r].seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ends[r].text = scratch.get(std::to_string(r));
  }
  return ends;
}

// Sums without end; the killed rank never returns.
void sum_forever(Comm& comm) {
  std::vector<int64_t> v(50000, 1);
  for (int64_t step = 0;; ++step) comm.all_reduce(v, CommOp::sum, {"grad", step});
}

void run_and_check(const std::unique_ptr<Comm>& comm) {
  if (all_reduce_one(*comm, comm->rank(), CommOp::sum, "sum") != 1) throw Error(Code::no, "wrong sum");
}

}  // namespace

TEST_CASE("tcp: every collective gives the serial result") {
  for (const int ranks : {2, 3, 4, 7, 8}) {
    CAPTURE(ranks);
    const auto errors = tcp_threads(ranks, {}, [](Comm& c) {
      check_collectives(c);
      check_counters(c, false);
    });
    for (const std::string& e : errors) CHECK(e == "");
  }
}

TEST_CASE("tcp: a killed rank is noticed at once and named") {
  const auto ends = tcp_processes(3, {}, sum_forever, [](const std::vector<pid_t>& pids) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    ::kill(pids[2], SIGKILL);
  });
  CHECK(ends[2].status == 128 + SIGKILL);
  for (const size_t r : {0, 1}) {
    CAPTURE(ends[r].text);
    CHECK(ends[r].status == 6);
    CHECK(ends[r].seconds < 3);
    CHECK(ends[r].text.find("all_reduce 'grad' step ") != std::string::npos);
    CHECK(ends[r].text.find("in group world: rank 2 (127.0.0.1) is gone: ") != std::string::npos);
  }
}

TEST_CASE("tcp: a rank that stands still is noticed by its silence") {
  const auto ends = tcp_processes(3, {.silence = 1.5}, sum_forever, [](const std::vector<pid_t>& pids) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    ::kill(pids[1], SIGSTOP);
    std::this_thread::sleep_for(std::chrono::milliseconds(4000));
    ::kill(pids[1], SIGKILL);
  });
  for (const size_t r : {0, 2}) {
    CAPTURE(ends[r].text);
    CHECK(ends[r].status == 6);
    CHECK(ends[r].text.find("rank 1 (127.0.0.1) is gone: no sign of life for 1.5 s") != std::string::npos);
  }
}

TEST_CASE("tcp: a time-out names rank, call, label, step and who is missing") {
  const auto errors = tcp_threads(4, {.timeout = 1.5, .silence = 2}, [](Comm& c) {
    c.barrier("together");
    if (c.rank() == 2) std::this_thread::sleep_for(std::chrono::milliseconds(3000));
    std::vector<int64_t> v(100000, 1);
    c.all_reduce(v, CommOp::sum, {"grad blocks.0", 12});
  });
  // Who times out first says it to the others.
  const std::string want =
      " of 4, all_reduce 'grad blocks.0' step 12 in group world: nothing came for 1.5 s; missing: rank 2";
  CAPTURE(errors);
  CHECK(errors[0].find(want) != std::string::npos);
  CHECK(errors[1].find(want) != std::string::npos);
}

TEST_CASE("tcp: an error on one rank ends the others with its words") {
  const auto errors = tcp_threads(3, {}, [](Comm& c) {
    check(c.rank() != 1, Code::io, "[disk] full");
    c.barrier("after");
  });
  CHECK(errors[0] == "6 [comm] rank 0 of 3, barrier 'after' in group world: rank 1 gave up: [disk] full");
  CHECK(errors[1] == "7 [disk] full");
  CHECK(errors[2] == "6 [comm] rank 2 of 3, barrier 'after' in group world: rank 1 gave up: [disk] full");
}

TEST_CASE("tcp: strangers are refused and hold nobody up") {
  int port = 0;
  Socket listener = listen_on(&port, "127.0.0.1");
  const Endpoint door{"127.0.0.1", port};
  TcpOptions zero{door, 0, 2, "secret"}, one{door, 1, 2, "secret"}, wrong{door, 1, 2, "guess"};
  wrong.connect_timeout = 5;
  std::thread first(
      [&] { run_and_check(GroupComm::world(tcp_transport(zero, meet(zero, std::move(listener))), 20)); });
  const Socket silent = connect_to(door, CommClock::now() + std::chrono::seconds(5));
  const Socket noisy = connect_to(door, CommClock::now() + std::chrono::seconds(5));
  const std::string noise(100, 'G');
  std::string why;
  CHECK(write_all(noisy, std::as_bytes(std::span(noise)), CommClock::now() + std::chrono::seconds(1), why));
  try {
    meet(wrong);
    CHECK(false);
  } catch (const Error& e) {
    CHECK(e.code == Code::device);
    CHECK(std::string(e.what()).find("refused us: another run's token") != std::string::npos);
  }
  const auto start = std::chrono::steady_clock::now();
  run_and_check(GroupComm::world(tcp_transport(one), 20));
  first.join();
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(4));
}

TEST_CASE("tcp: a missing rank, two worlds or two ranks of one number: refused by all with one message") {
  const auto nothing = [](Comm&) {};
  auto errors = tcp_threads(3, {.connect_timeout = 0.5, .absent = {2}}, nothing);
  CHECK(errors[0] == "6 [comm] rank 0 waited 0.5 s for 3 ranks; missing: rank 2");
  CHECK(errors[1] == errors[0]);
  errors = tcp_threads(
      3, {.change = [](int rank, TcpOptions& o) { o.size = rank == 2 ? 4 : 3; }, .absent = {1}}, nothing);
  CHECK(errors[0] == "3 [comm] rank 2 (127.0.0.1) says the world has 4 ranks, rank 0 says 3");
  CHECK(errors[2] == errors[0]);
  errors = tcp_threads(
      4, {.change = [](int rank, TcpOptions& o) { o.rank = rank == 2 ? 1 : rank; }, .absent = {3}}, nothing);
  CHECK(errors[0] == "3 [comm] two processes say they are rank 1, one of them on 127.0.0.1");
  CHECK(errors[1] == errors[0]);
  CHECK(errors[2] == errors[0]);
}

TEST_CASE("tcp: a peer that sends nonsense is cut off, and harms nothing") {
  const auto frame = [](FrameType type, uint64_t bytes) {
    FrameHeader h;
    h.type = type;
    h.bytes = bytes;
    return h;
  };
  std::vector<FrameHeader> bad = {frame(static_cast<FrameType>(99), 0),
                                  frame(FrameType::small, uint64_t{1} << 40),
                                  frame(FrameType::beat, 7),
                                  frame(FrameType::abandon, 1 << 20),
                                  frame(FrameType::take, 5),
                                  frame(FrameType::offer, 3)};
  bad.push_back(frame(FrameType::small, 8));
  bad.back().kind = 1000;
  for (const FrameHeader& h : bad) {
    int port = 0;
    Socket listener = listen_on(&port, "127.0.0.1");
    const TcpOptions zero{{"127.0.0.1", port}, 0, 2, "secret"}, one{{"127.0.0.1", port}, 1, 2, "secret"};
    std::thread peer([&] {
      const std::vector<Socket> sockets = meet(one);
      std::string why;
      const auto soon = CommClock::now() + std::chrono::seconds(5);
      // An answer to what nobody asked is read over; the next frame is not.
      std::vector<std::byte> unasked(sizeof(FrameHeader) + 100000);
      const FrameHeader data = frame(FrameType::data, 100000);
      std::memcpy(unasked.data(), &data, sizeof data);
      write_all(sockets[0], unasked, soon, why);
      write_all(sockets[0], std::as_bytes(std::span(&h, 1)), soon, why);
      std::byte rest[4096];
      while (read_all(sockets[0], rest, soon, why)) {
      }
    });
    auto world = GroupComm::world(tcp_transport(zero, meet(zero, std::move(listener))), 20);
    CHECK(code_of([&] { world->barrier("hello"); }) == Code::device);
    try {
      world->barrier("again");
    } catch (const Error& e) {
      CHECK(std::string(e.what()).find("rank 1 (127.0.0.1) is gone: it sent what no rank of llmctl sends") !=
            std::string::npos);
    }
    world->abandon("test");
    world.reset();  // its socket closes, so the peer ends
    peer.join();
  }
}
