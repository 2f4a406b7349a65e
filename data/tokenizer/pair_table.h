// SPDX-License-Identifier: Apache-2.0
// Pairs of ids to how often they stand side by side, for BPE training. Open addressing; nothing is taken out.
#pragma once

#include <cstdint>

#include "core/base/scratch.h"

namespace llmctl {

using Pair = uint64_t;  // left id in the high half: compares as (left, right)
inline Pair pair_of(uint32_t left, uint32_t right) {
  return uint64_t{left} << 32 | right;
}

class PairTable {
 public:
  struct Slot {
    Pair pair = 0;
    int64_t count = 0;
    // The pair has been put on the heap, and more than once: two lists of places speak of it.
    bool used = false, offered = false, repeated = false;
  };
  explicit PairTable(const fs::path& folder) : folder_(folder), slots_(folder) { slots_.resize(kSmallest); }
  // The reference holds until the next call.
  Slot& at(Pair pair) {
    Slot* slot = find(pair);
    if (slot->used) return *slot;
    if (++used_ * 8 > slots_.size() * 5) {
      grow();
      slot = find(pair);
    }
    slot->pair = pair;
    slot->used = true;
    return *slot;
  }

 private:
  static constexpr size_t kSmallest = size_t{1} << 16;
  Slot* find(Pair pair) {
    const size_t mask = slots_.size() - 1;
    for (size_t i = (pair * 0x9e3779b97f4a7c15U >> 20) & mask;; i = (i + 1) & mask)
      if (!slots_[i].used || slots_[i].pair == pair) return &slots_[i];
  }
  void grow() {
    const ScratchArray<Slot> old = std::exchange(slots_, ScratchArray<Slot>(folder_));
    slots_.resize(old.size() * 2);
    for (size_t i = 0; i < old.size(); ++i)
      if (old[i].used) *find(old[i].pair) = old[i];
  }
  fs::path folder_;
  ScratchArray<Slot> slots_;
  size_t used_ = 0;
};

}  // namespace llmctl
