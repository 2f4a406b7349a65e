// SPDX-License-Identifier: Apache-2.0
// What GET /metrics reports, in Prometheus' text format (version 0.0.4). Threads: every method may
// be called from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/engine/engine.h"

namespace llmctl::serve {

struct Histogram {
  static constexpr std::array<double, 16> kBounds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                                  1,     2.5,    5,     10,   30,    60,   300};  // seconds
  std::array<uint64_t, kBounds.size() + 1> counts{};
  double sum = 0;
  uint64_t count = 0;
  void add(double seconds);
};

class Metrics {
 public:
  void answered(const std::string& route, int status);
  void first_token(double seconds);
  void next_token(double seconds);
  void finished(double seconds);
  void tokens(uint64_t prompt, uint64_t generated);
  // One entry per served model.
  std::string render(const std::vector<std::pair<std::string, EngineStats>>& engines) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, uint64_t> requests_;
  Histogram first_token_, next_token_, finished_;
  uint64_t prompt_tokens_ = 0, generated_tokens_ = 0;
};

}  // namespace llmctl::serve
