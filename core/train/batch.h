// SPDX-License-Identifier: Apache-2.0
// Where training rows come from. The data room implements it; the trainer only asks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace llmctl {

// The rows of one unit.
struct Batch {
  int64_t rows = 0, seq = 0;
  std::vector<int32_t> tokens;   // (rows, seq)
  std::vector<int32_t> targets;  // (rows, seq): the next token, -1 where none is asked for
  std::vector<std::vector<int32_t>> doc_starts;  // per row, ascending, 0 first
};

struct BatchSource {
  virtual ~BatchSource() = default;
  // A pure function of (the source's data and seed, step, unit): any rank, any order, after any
  // resume the same rows. Any thread.
  virtual void read(int64_t step, int64_t unit, Batch& out) const = 0;
  // Of the data behind it.
  virtual std::string digest() const = 0;
  virtual int64_t tokens() const = 0;
};

}  // namespace llmctl
