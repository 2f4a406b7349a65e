// SPDX-License-Identifier: Apache-2.0
// Pieces of text to counts. Threads: one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/base/scratch.h"

namespace llmctl {

// Open addressing, two tables: pieces up to 15 bytes lie in their slots, longer ones in an arena.
class PieceTable {
 public:
  using Sink = std::function<void(std::string_view piece, uint64_t count)>;
  // `end`: of the memory that the piece may be read up to, for 16-byte loads.
  void add(std::string_view piece, uint64_t count, const char* end);
  uint64_t bytes() const;  // of memory
  // What bytes() may be once `pieces` more that are not known, of `text` bytes together, are added.
  uint64_t bytes_with(size_t pieces, size_t text) const;
  void each(const Sink& sink) const;  // in no order
  bool empty() const { return shorts_ + longs_ == 0; }
  void clear();

 private:
  struct Short {
    uint64_t low = 0, high = 0, count = 0;  // the length in high's top byte; 0: free
  };
  struct Long {
    uint64_t hash = 0, offset = 0, count = 0;  // count 0: free
    uint32_t size = 0;
  };
  void add_long(std::string_view piece, uint64_t count);
  void grow_short();
  void grow_long();
  ScratchArray<Short> short_;
  ScratchArray<Long> long_;
  size_t shorts_ = 0, longs_ = 0;
  std::string arena_;
};

}  // namespace llmctl
