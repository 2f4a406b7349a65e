// SPDX-License-Identifier: Apache-2.0
// The different pieces of a corpus as rows of symbols that BPE training joins in place.
//
// A token covers as many places as it has bytes; its id stands at its first place and at its last, so that
// both neighbours are found without a list of links. Words are laid out by falling count, with a separator
// before and after each: how often a place counts is then a step function of it.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/base/scratch.h"
#include "data/tokenizer/piece_counter.h"

namespace llmctl {

class BpeWords {
 public:
  static constexpr uint32_t kSeparator = UINT32_MAX, kInside = UINT32_MAX - 1;
  // Bytes become the ids of `id_of_byte`. Error{unsupported} above 2^32 places.
  BpeWords(PieceCounter& pieces, const uint32_t (&id_of_byte)[256], uint64_t memory, const fs::path& folder);

  uint32_t* symbols() const { return symbols_.data(); }
  uint32_t places() const { return static_cast<uint32_t>(symbols_.size()); }
  // Where tables as large as the corpus go: "" for memory.
  const fs::path& folder() const { return folder_; }

  // Counts of ascending places, in one walk.
  class Counts {
   public:
    explicit Counts(const BpeWords& words) : steps_(&words.steps_) {}
    int64_t at(uint32_t place) {
      while (step_ + 1 < steps_->size() && (*steps_)[step_ + 1].first <= place) ++step_;
      return (*steps_)[step_].second;
    }
    // Before a walk that starts anywhere.
    void seek(uint32_t place);

   private:
    const std::vector<std::pair<uint32_t, int64_t>>* steps_;
    size_t step_ = 0;
  };

 private:
  fs::path folder_;
  ScratchArray<uint32_t> symbols_;
  std::vector<std::pair<uint32_t, int64_t>> steps_;  // first place of a count, ascending places
};

}  // namespace llmctl
