// SPDX-License-Identifier: Apache-2.0
// Exact deduplication by the 128-bit XXH3 hash of the text: two of n documents that differ are taken for
// copies with chance n^2 / 2^129. Rows of 32 bytes a document are sorted out of core.
#pragma once

#include <span>

#include "data/dedup/external_sort.h"
#include "data/dedup/verdict.h"

namespace llmctl {

struct ExactOptions {
  fs::path folder;  // for spilled rows; exists
  uint64_t memory_bytes = uint64_t{256} << 20;
  // Hash simplify_text() (data/text/simplify.h: case, punctuation, accents, digits and spaces do not
  // count) instead of the bytes as they are.
  bool simplified = false;
};

// Threads: add() and finish() from one thread; they use exec's.
class ExactDedup {
 public:
  ExactDedup(const ExactOptions& options, const kn::Exec& exec);
  ~ExactDedup();
  // Error{usage} for a priority above kMaxPriority.
  void add(std::span<const DedupText> batch);
  uint64_t documents() const;
  // Once. Empty texts are copies of each other.
  void finish(const VerdictSink& sink);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace llmctl
