// SPDX-License-Identifier: Apache-2.0
// Learning rates by step: a linear warm-up that reaches the peak in its last step, then the kind's shape.
#include <catch2/catch.hpp>
#include <cmath>

#include "core/train/config.h"

namespace llmctl {
namespace {

std::vector<double> rates(const ScheduleConfig& s) {
  OptimizerConfig o;
  o.learning_rate = 2.0;
  std::vector<double> out;
  for (int64_t step = 0; step < s.steps; ++step) out.push_back(learning_rate_at(o, s, step));
  return out;
}

ScheduleConfig schedule(const std::string& kind, int64_t steps, int64_t warmup, int64_t decay, double min_ratio) {
  return {.kind = kind, .steps = steps, .warmup_steps = warmup, .decay_steps = decay, .min_ratio = min_ratio};
}

}  // namespace

TEST_CASE("wsd warms up, is stable, and falls in a line over its decay steps", "[schedule]") {
  // Hu et al. 2024 with a linear fall, as transformers' get_wsd_schedule(decay_type="linear").
  CHECK(rates(schedule("wsd", 10, 2, 4, 0.0)) == std::vector<double>{1, 2, 2, 2, 2, 2, 2, 1.5, 1, 0.5});
  CHECK(rates(schedule("wsd", 8, 0, 4, 0.5)) == std::vector<double>{2, 2, 2, 2, 2, 1.75, 1.5, 1.25});
  CHECK(rates(schedule("wsd", 5, 1, 4, 0.0)) == std::vector<double>{2, 2, 1.5, 1, 0.5});
  // What makes it the schedule of runs whose length is decided later: the stable part knows no end.
  const std::vector<double> short_run = rates(schedule("wsd", 100, 10, 20, 0)), long_run = rates(schedule("wsd", 900, 10, 20, 0));
  for (size_t i = 0; i <= 80; ++i) CHECK(short_run[i] == long_run[i]);
}

TEST_CASE("a wsd that does not fit its steps is refused", "[schedule]") {
  CHECK_NOTHROW(check_schedule(schedule("wsd", 10, 4, 6, 0)));
  CHECK_THROWS_WITH(check_schedule(schedule("wsd", 10, 4, 7, 0)),
                    Catch::Contains("4 steps of warm-up and 7 of decay do not fit into 10 steps"));
  CHECK_THROWS_WITH(check_schedule(schedule("wsd", 10, 4, 0, 0)), Catch::Contains("decay_steps is 0"));
  CHECK_NOTHROW(check_schedule(schedule("cosine", 10, 4, 0, 0)));
}

TEST_CASE("cosine, linear and constant after the warm-up", "[schedule]") {
  CHECK(rates(schedule("constant", 4, 2, 0, 0)) == std::vector<double>{1, 2, 2, 2});
  CHECK(rates(schedule("linear", 6, 2, 0, 0)) == std::vector<double>{1, 2, 2, 1.5, 1, 0.5});
  const std::vector<double> cosine = rates(schedule("cosine", 6, 2, 0, 0.5));
  CHECK(cosine[2] == 2.0);
  CHECK(cosine[4] == Approx(1.5).margin(1e-12));
  CHECK(cosine[5] == Approx(1.0 + 0.5 * (1 - std::sqrt(0.5))).margin(1e-12));
}

}  // namespace llmctl
