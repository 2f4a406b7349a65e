// SPDX-License-Identifier: Apache-2.0
// Where a command's time goes, by op: an OpTrace that adds up the wall time of each kind. Ops run
// one after another on the calling thread, so the sum is the time spent in ops.
#pragma once

#include <chrono>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "kernels/exec.h"

namespace llmctl {

class OpTimes final : public kn::OpTrace {
 public:
  struct Row {
    std::string op;
    double seconds = 0;
    int64_t calls = 0;
  };

  void begin(const char*) override { start_ = Clock::now(); }
  void end(const char* op) override {
    Row& r = rows_[op];
    r.seconds += std::chrono::duration<double>(Clock::now() - start_).count();
    ++r.calls;
  }
  // Longest first.
  std::vector<Row> rows() const {
    std::multimap<double, Row, std::greater<>> sorted;
    for (const auto& [op, row] : rows_) sorted.insert({row.seconds, {op, row.seconds, row.calls}});
    std::vector<Row> out;
    for (auto& [seconds, row] : sorted) out.push_back(row);
    return out;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_;
  std::map<std::string, Row> rows_;
};

}  // namespace llmctl
