// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/train/config.h"
#include "kernels/math.h"

namespace llmctl {

void check_schedule(const ScheduleConfig& s) {
  if (s.kind != "wsd") return;
  check(s.decay_steps > 0, Code::input, "[train] schedule.kind is wsd and schedule.decay_steps is 0: it would never fall");
  check(s.warmup_steps + s.decay_steps <= s.steps, Code::input, "[train] schedule: ", s.warmup_steps,
        " steps of warm-up and ", s.decay_steps, " of decay do not fit into ", s.steps, " steps");
}

double learning_rate_at(const OptimizerConfig& o, const ScheduleConfig& s, int64_t step) {
  if (step < s.warmup_steps)
    return o.learning_rate * static_cast<double>(step + 1) / static_cast<double>(s.warmup_steps);
  const int64_t after = s.steps - s.warmup_steps;
  double ratio = 1.0;
  if (s.kind == "wsd") {
    const int64_t left = s.steps - step;
    if (s.decay_steps > 0 && left < s.decay_steps)
      ratio = s.min_ratio + (1.0 - s.min_ratio) * static_cast<double>(left) / static_cast<double>(s.decay_steps);
  } else if (s.kind != "constant" && after > 0) {
    const double t = std::min(1.0, static_cast<double>(step - s.warmup_steps) / static_cast<double>(after));
    const double fall = s.kind == "cosine" ? 0.5 * (1.0 + kn::cos64(3.14159265358979323846 * t)) : 1.0 - t;
    ratio = s.min_ratio + (1.0 - s.min_ratio) * fall;
  }
  return o.learning_rate * ratio;
}

}  // namespace llmctl
