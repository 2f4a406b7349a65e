// SPDX-License-Identifier: Apache-2.0
// Where weights go as they are packed: the model's own memory, or a file that is mapped as such.
#pragma once

#include <cstddef>
#include <cstdint>

namespace llmctl {

// Pieces come one at a time and in increasing order of address; what lies between them is zero.
struct WeightSink {
  virtual ~WeightSink() = default;
  // Memory to fill with the bytes that the model reads at `place`.
  virtual std::byte* stage(const std::byte* place, int64_t bytes) = 0;
  // The piece is complete; its memory is not written any more.
  virtual void done() = 0;
};

struct InPlace final : WeightSink {
  std::byte* stage(const std::byte* place, int64_t) override { return const_cast<std::byte*>(place); }
  void done() override {}
};

}  // namespace llmctl
