// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <thread>

#include "../scratch.h"
#include "comm_checks.h"
#include "core/base/comm_queue.h"
#include "parallel/thread_world.h"

using namespace llmctl;

namespace {

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// What run_threads throws, as text.
std::string thrown(int ranks, double timeout, const std::function<void(Comm&)>& rank_main) {
  try {
    run_threads(ranks, timeout, rank_main);
  } catch (const Error& e) {
    return std::to_string(static_cast<int>(e.code)) + " " + e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("threads: every collective gives the serial result") {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    CAPTURE(ranks);
    REQUIRE_NOTHROW(run_threads(ranks, 60, check_collectives));
    REQUIRE_NOTHROW(run_threads(ranks, 60, [](Comm& c) { check_counters(c, true); }));
  }
}

TEST_CASE("threads: a rank that throws ends the others, and its error is the one reported") {
  std::vector<std::string> seen(3);
  const double took = seconds_of([&] {
    CHECK(thrown(3, 60, [&](Comm& c) {
            if (c.rank() == 1) throw Error(Code::io, "[disk] full");
            try {
              c.barrier({"after", 7});
            } catch (const Error& e) {
              seen[static_cast<size_t>(c.rank())] = e.what();
              throw;
            }
          }) == "7 [disk] full");
  });
  CHECK(took < 5);
  CHECK(seen[2] == "[comm] rank 2 of 3, barrier 'after' step 7 in group world: rank 1 gave up: [disk] full");
}

TEST_CASE("threads: a rank that leaves early is missed by name") {
  CHECK(thrown(2, 60, [](Comm& c) {
          if (c.rank() == 0) c.barrier("alone");
        }) == "6 [comm] rank 0 of 2, barrier 'alone' in group world: rank 1 has left");
}

TEST_CASE("threads: a time-out names rank, call, label, step and who is missing") {
  const std::string text = thrown(4, 1, [](Comm& c) {
    c.barrier("together");
    if (c.rank() == 2) std::this_thread::sleep_for(std::chrono::milliseconds(2500));
    std::vector<int64_t> v(100000, 1);
    c.all_reduce(v, CommOp::sum, {"grad blocks.0", 12});
  });
  CAPTURE(text);
  CHECK(text.find("6 [comm] rank ") == 0);
  CHECK(text.find(" of 4, all_reduce 'grad blocks.0' step 12 in group world: nothing came for 1 s; "
                  "missing: rank 2") != std::string::npos);
}

TEST_CASE("threads: ranks in different calls, or in one with different sizes, are told so") {
  const std::string calls = thrown(2, 60, [](Comm& c) {
    int64_t x = 0;
    if (c.rank() == 0)
      c.all_reduce(std::span(&x, 1), CommOp::sum, "loss");
    else
      c.broadcast(std::as_writable_bytes(std::span(&x, 1)), 1, "weights");
  });
  CAPTURE(calls);
  CHECK(calls.find("rank 1 is in broadcast of 8 bytes where rank 0 is in all_reduce of 8 bytes") !=
        std::string::npos);
  const std::string sizes = thrown(2, 60, [](Comm& c) {
    std::vector<int64_t> v(static_cast<size_t>(c.rank() + 1));
    c.all_reduce(v, CommOp::sum, "loss");
  });
  CAPTURE(sizes);
  CHECK(sizes.find("is in all_reduce of") != std::string::npos);
}

TEST_CASE("configs that differ are refused by all ranks with one message") {
  std::vector<std::string> texts(5);
  const std::string first = thrown(5, 60, [&](Comm& c) {
    require_same(c, "build", "v1");
    try {
      require_same(c, "config", c.rank() == 3 ? "b" : "a");
    } catch (const Error& e) {
      texts[static_cast<size_t>(c.rank())] = e.what();
      throw;
    }
  });
  CHECK(first ==
        "3 [comm] config differs between ranks: 0-2, 4 have a, 3 has b; start every rank with the same");
  for (const std::string& t : texts) CHECK("3 " + t == first);
}

TEST_CASE("what fails on one rank fails on all, its code kept") {
  std::vector<std::string> texts(3);
  CHECK(thrown(3, 60, [&](Comm& c) {
          together(c, "nothing", [] {});
          try {
            together(c, "load", [&] { check(c.rank() != 1, Code::io, "[file] gone"); });
          } catch (const Error& e) {
            texts[static_cast<size_t>(c.rank())] = e.what();
            throw;
          }
        }) == "7 rank 1: [file] gone");
  for (const std::string& t : texts) CHECK(t == "rank 1: [file] gone");
}

TEST_CASE("a queue communicates beside its rank, in order, and hands its errors over") {
  for (const int ranks : {1, 3}) {
    run_threads(ranks, 60, [](Comm& c) {
      const std::unique_ptr<Comm> own = c.split(0, c.rank(), "queue");
      std::vector<int64_t> sums(20, c.rank());
      {
        CommQueue queue(*own);
        std::vector<CommQueue::Ticket> tickets;
        for (size_t i = 0; i < sums.size(); ++i)
          tickets.push_back(
              queue.post([&sums, i](Comm& q) { q.all_reduce(std::span(&sums[i], 1), CommOp::sum, "sum"); }));
        for (int i = 0; i < 20; ++i) c.barrier("beside");
        queue.wait(tickets.back());
        check(queue.done(tickets.front()), Code::no, "not done");
      }
      for (const int64_t s : sums) check(s == c.size() * (c.size() - 1) / 2, Code::no, "sum ", s);
      CommQueue queue(*own);
      const CommQueue::Ticket bad = queue.post([](Comm&) { throw Error(Code::io, "[queue] failed"); });
      check(error_code([&] { queue.wait(bad); }) == Code::io, Code::no, "no error came");
    });
  }
}

TEST_CASE("pieces are even and cut at the grain") {
  CHECK(even_offsets(10, 3) == std::vector<int64_t>{0, 4, 7, 10});
  CHECK(even_offsets(10, 3, 4) == std::vector<int64_t>{0, 4, 8, 10});
  CHECK(even_offsets(3, 4) == std::vector<int64_t>{0, 1, 2, 3, 3});
  CHECK(even_offsets(0, 2, 64) == std::vector<int64_t>{0, 0, 0});
}

// Both threads of a rank may find two messages that are to be added to the same place.
TEST_CASE("threads: sums are whole while another thread of the rank communicates") {
  std::atomic<int> wrong{0};
  run_threads(4, 60, [&](Comm& c) {
    const int n = c.size(), r = c.rank();
    const auto beside = c.split(0, r, "beside");
    CommQueue queue(*beside);
    std::vector<std::byte> mine(9000, static_cast<std::byte>(r)), all(9000 * static_cast<size_t>(n));
    std::vector<int64_t> sums(4000 * static_cast<size_t>(n));
    const std::vector<int64_t> bytes = even_offsets(static_cast<int64_t>(all.size()), n),
                               items = even_offsets(static_cast<int64_t>(sums.size()), n);
    for (int64_t i = 0; i < 500; ++i) {
      const CommQueue::Ticket ticket = queue.post([&](Comm& q) { q.all_gather(mine, all, bytes, "all"); });
      std::fill(sums.begin(), sums.end(), i * (r + 1));
      c.reduce_scatter(std::span(sums), items, "sums");
      for (int64_t at = items[static_cast<size_t>(r)]; at < items[static_cast<size_t>(r) + 1]; ++at)
        if (sums[static_cast<size_t>(at)] != i * n * (n + 1) / 2) ++wrong;
      queue.wait(ticket);
      for (size_t at = 0; at < all.size(); ++at)
        if (all[at] != static_cast<std::byte>(at / 9000)) ++wrong;
    }
  });
  CHECK(wrong == 0);
}
