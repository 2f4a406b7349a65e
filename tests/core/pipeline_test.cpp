// SPDX-License-Identifier: Apache-2.0
// Every schedule there is, valid, free of deadlock, with the bubble and the memory its paper promises.
#include "core/train/pipeline.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "kernels/error.h"

namespace llmctl {
namespace {

using Catch::Contains;

bool takes(const std::string& kind, int chunks) {
  return kind == "gpipe" || (kind == "interleaved" ? chunks > 1 : chunks == 1);
}

template <class F>
void each_schedule(F f) {
  for (const std::string& kind : schedule_kinds())
    for (int ranks = 1; ranks <= 8; ++ranks)
      for (int chunks = 1; chunks <= 4; ++chunks)
        for (int units = 1; units <= 24; ++units)
          if (takes(kind, chunks)) {
            INFO(kind << " over " << ranks << " ranks, " << chunks << " chunks, " << units << " units");
            f(kind, make_schedule(kind, ranks, chunks, units), chunks);
          }
}

int warm_up(const std::vector<PipeAction>& actions) {
  const auto first = std::find_if(actions.begin(), actions.end(), [](auto& a) { return a.op != PipeOp::forward; });
  return static_cast<int>(first - actions.begin()) - 1;  // the last forward before it is the steady state's
}

}  // namespace

TEST_CASE("every schedule is valid and runs with few messages under way", "[pipeline]") {
  each_schedule([](const std::string& kind, const PipeSchedule& s, int chunks) {
    REQUIRE(schedule_fault(s) == "");
    const int needed = outstanding_needed(s);
    REQUIRE(needed >= 0);
    // A chunk's outputs wait while their next rank still runs the chunk before: of few units, or of all (gpipe).
    const int most = chunks == 1 ? 1 : kind == "gpipe" ? s.units : s.units % s.ranks == 0 ? 2 : 5;
    REQUIRE(needed <= std::max(1, most));
    if (kind == "gpipe" && chunks == 1) REQUIRE(needed == 0);
    for (int n = needed; n < needed + 3; ++n) REQUIRE(schedule_deadlock(s, n) == "");  // more never hurts
  });
}

TEST_CASE("bubbles are those of the papers", "[pipeline]") {
  const double f = 1, b = 2;  // input and weight halves of 1 each
  each_schedule([&](const std::string& kind, const PipeSchedule& s, int v) {
    const int p = s.ranks, m = s.units;
    const PipeTimes t = simulate(s);
    const double ideal = m * v * (f + b);
    if (kind == "1f1b" || (kind == "gpipe" && v == 1)) {
      REQUIRE(t.bubble == Approx((p - 1.0) / (m + p - 1.0)).margin(1e-12));
      REQUIRE(t.makespan == Approx(ideal + (p - 1) * (f + b)));
    }
    // (p - 1)(F + B) of stages of a v-th: a v-th of 1F1B's. Units that fill no group, or do not fill all ranks,
    // cost no more than 1F1B over the same model would.
    if (kind == "interleaved" && m % p == 0) REQUIRE(t.makespan == Approx(ideal + (p - 1) * (f + b)));
    if (kind == "interleaved" || kind == "gpipe") REQUIRE(t.makespan <= ideal + (p - 1) * (f + b) * v + 1e-9);
    if (kind == "gpipe" && m >= p) REQUIRE(t.makespan == Approx(ideal + (p - 1) * (f + b)));
    if (kind == "zero_bubble" && m >= p) REQUIRE(t.makespan == Approx(ideal + (p - 1)));  // (p - 1)(F + B - 2W)
    if (kind == "zero_bubble" && p > 1) REQUIRE(t.makespan < ideal + (p - 1) * (f + b));
  });
}

TEST_CASE("memory is that of the papers", "[pipeline]") {
  each_schedule([](const std::string& kind, const PipeSchedule& s, int v) {
    const int p = s.ranks, m = s.units;
    const PipeTimes t = simulate(s);
    for (int r = 0; r < p; ++r) {
      const int alive = t.alive_of_rank[static_cast<size_t>(r)];
      if (kind == "gpipe") REQUIRE(alive == m * v);
      if (kind == "1f1b") REQUIRE(alive == std::min(p - r, m));
      if (kind == "zero_bubble") REQUIRE(alive <= std::min(p, m));
      if (kind == "interleaved" && m % p == 0) REQUIRE(alive == std::min((p - r - 1) * 2 + (v - 1) * p + 1, m * v));
    }
  });
}

TEST_CASE("warm-up forwards are the published numbers", "[pipeline]") {
  each_schedule([](const std::string& kind, const PipeSchedule& s, int v) {
    const int p = s.ranks, m = s.units;
    for (int r = 0; r < p; ++r) {
      const int n = warm_up(s.of_rank[static_cast<size_t>(r)]);
      if (kind == "1f1b") REQUIRE(n == std::min(p - r - 1, m - 1));
      if (kind == "interleaved" && m % p == 0) REQUIRE(n == std::min((p - r - 1) * 2 + (v - 1) * p, m * v - 1));
    }
  });
}

TEST_CASE("schedules as drawn", "[pipeline]") {
  CHECK(draw(make_schedule("1f1b", 2, 1, 3)) ==
        "F0 F1 .  .  B0 =  F2 B1 =  .  B2 =\n"
        ".  F0 B0 =  F1 B1 =  F2 B2 =  .  .\n");
  CHECK(draw(make_schedule("zero_bubble", 2, 1, 3)) ==
        "F0 F1 .  I0 W0 F2 I1 W1 I2 W2\n"
        ".  F0 I0 F1 I1 W0 F2 I2 W1 W2\n");
  CHECK(draw(make_schedule("interleaved", 2, 2, 2), {.forward = 1, .backward_input = 0.5, .backward_weight = 0.5}, 1,
             6) ==
        "F0a F1a F0b F1b .   B0b\n"
        ".   F0a F1a F0b B0b F1b\n");
}

TEST_CASE("a corrupted schedule is caught, and it is said who waits for what", "[pipeline]") {
  const PipeSchedule good = make_schedule("1f1b", 4, 1, 8);
  auto broken = [&](auto change) {
    PipeSchedule s = good;
    change(s);
    return s;
  };
  using S = PipeSchedule;
  CHECK_THAT(schedule_fault(broken([](S& s) { s.of_rank[1].pop_back(); })),
             Contains("rank 1: the backward of unit 7, stage 1 is missing"));
  CHECK_THAT(schedule_fault(broken([](S& s) { s.of_rank[2].push_back(s.of_rank[2][0]); })),
             Contains("rank 2: forward of unit 0, stage 2 comes twice"));
  CHECK_THAT(schedule_fault(broken([](S& s) { s.of_rank[0][0].stage = 3; })),
             Contains("forward of unit 0, stage 3 belongs to rank 3"));
  CHECK_THAT(schedule_fault(broken([](S& s) { std::swap(s.of_rank[3][0], s.of_rank[3][1]); })),
             Contains("rank 3: backward of unit 0, stage 3 comes before its forward"));
  CHECK_THAT(schedule_fault(broken([](S& s) { s.of_rank[3][2].unit = 8; })),
             Contains("is none of 8 units and 4 stages"));
  PipeSchedule halves = make_schedule("zero_bubble", 2, 1, 2);
  auto& first = halves.of_rank[0];
  std::swap(*std::find(first.begin(), first.end(), PipeAction{PipeOp::backward_input, 0, 0}),
            *std::find(first.begin(), first.end(), PipeAction{PipeOp::backward_weight, 0, 0}));
  CHECK_THAT(schedule_fault(halves), Contains("backward_weight of unit 0, stage 0 comes before its backward_input"));

  // Each list good on its own, together a circle: rank 2 wants unit 1 back before it passes unit 2 on, rank 3 wants
  // unit 2 before it gives unit 1 back.
  const S stuck = broken([](S& s) {
    auto alternate = [&](int rank) {
      auto& a = s.of_rank[static_cast<size_t>(rank)] = {};
      for (int u = 0; u < 8; ++u) a.push_back({PipeOp::forward, u, rank}), a.push_back({PipeOp::backward, u, rank});
    };
    alternate(2), alternate(3);
    std::swap(s.of_rank[3][3], s.of_rank[3][4]);  // F0 B0 F1 F2 B1 ...
  });
  CHECK(schedule_fault(stuck) == "");
  const std::string who = schedule_deadlock(stuck, 4);
  CHECK_THAT(
      who,
      Contains("rank 2, backward of unit 1, stage 2, waits for the gradient for unit 1, stage 2 from rank 3") &&
          Contains("rank 3, forward of unit 2, stage 3, waits for the activation for unit 2, stage 3 from rank 2"));
  CHECK_THROWS_WITH(simulate(stuck), Contains("deadlock"));
}

TEST_CASE("one forward, one backward cannot run where every send waits for its receive", "[pipeline]") {
  const PipeSchedule s = make_schedule("1f1b", 2, 1, 4);
  CHECK(schedule_deadlock(s, 0) ==
        "rank 0, forward of unit 1, stage 0, waits until rank 1 receives before it can send the activation for unit 1, "
        "stage 1; rank 1, backward of unit 0, stage 1, waits until rank 0 receives before it can send the gradient for "
        "unit 0, stage 0");
  CHECK(outstanding_needed(s) == 1);
}

TEST_CASE("a send's time is counted once per hop", "[pipeline]") {
  const PipeTimes t = simulate(make_schedule("gpipe", 3, 1, 1), {.send = 0.5});
  CHECK(t.makespan == Approx(9 + 4 * 0.5));
  CHECK(simulate(make_schedule("gpipe", 1, 3, 1), {.send = 0.5}).makespan == Approx(9));
}

TEST_CASE("a schedule that cannot be is refused with what would do", "[pipeline]") {
  CHECK_THROWS_WITH(make_schedule("1f1b", 4, 2, 8),
                    "[pipeline] 1f1b has one model chunk per rank, not 2: take interleaved or gpipe");
  CHECK_THROWS_WITH(make_schedule("interleaved", 4, 1, 8),
                    "[pipeline] interleaved needs 2 or more model chunks per rank, there is 1: take 1f1b");
  CHECK_THROWS_WITH(make_schedule("dual", 4, 1, 8), Contains("no schedule 'dual': there are gpipe, 1f1b"));
  CHECK_THROWS_WITH(make_schedule("gpipe", 4, 1, 0), Contains("each must be 1 or more"));
}

}  // namespace llmctl
