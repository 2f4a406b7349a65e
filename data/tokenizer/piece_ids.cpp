// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/piece_ids.h"

#include <algorithm>
#include <bit>

namespace llmctl {

PieceIds::PieceIds(size_t pieces) : lines_(std::bit_ceil(std::max<size_t>(2, pieces * 2 / 3 + 1))) {}

void PieceIds::add(const PieceEntry& entry) {
  for (PieceLine* line = &lines_[entry.key.hash()];; line = lines_.after(line))
    for (PieceEntry& place : line->entries)
      if (place.key.high == 0) {
        place = entry;
        return;
      }
}

PieceCache::PieceCache(size_t bytes)
    : front_(std::bit_floor(std::clamp<size_t>(bytes / 4 / sizeof(PieceEntry), 2, kMostInFront))),
      lines_(std::bit_floor(std::max<size_t>(bytes / 2 / sizeof(PieceLine), 2))),
      longs_(std::bit_floor(std::max<size_t>(bytes / 4 / sizeof(Long), 1))) {}

PieceCache::Long& PieceCache::long_place(std::string_view piece) {
  uint64_t hash = piece.size();
  for (size_t at = 0; at < piece.size(); at += 8) {  // the last word overlaps the one before
    uint64_t word;
    std::memcpy(&word, piece.data() + std::min(at, piece.size() - 8), 8);
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
  }
  return longs_[hash & (longs_.size() - 1)];
}

}  // namespace llmctl
