// SPDX-License-Identifier: Apache-2.0
// Time that passes: for what is reported, never for what is computed.
#pragma once

#include <chrono>

namespace llmctl {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace llmctl
