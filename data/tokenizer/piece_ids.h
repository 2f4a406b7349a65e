// SPDX-License-Identifier: Apache-2.0
// Pieces of up to 15 bytes to their ids, up to 4 of them: the bytes are the key, and two entries share a
// cache line. PieceIds is made once from the vocabulary; PieceCache keeps what was merged lately; a
// PieceFront stands before both, small enough for the nearest caches.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "data/tokenizer/huge_array.h"

namespace llmctl {

constexpr size_t kLongestKey = 15, kMostInline = 4;

// The bytes, then zeros; the last byte is their number, so that no key is empty.
struct PieceKey {
  uint64_t low, high;  // not set by default: an encoder has hundreds at a time on its stack
  bool operator==(const PieceKey& o) const { return low == o.low && high == o.high; }
  uint64_t hash() const {
    const auto product =
        static_cast<unsigned __int128>(low ^ 0x9E3779B97F4A7C15u) * (high ^ 0xC2B2AE3D27D4EB4Fu);
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
};

// The key of p[0, size), 1 <= size <= 15; sixteen bytes at p are read. A size of 16 stands for a piece too
// long for a key: what comes out equals no key.
inline PieceKey piece_key(const char* p, size_t size) {
  static constexpr auto kKept = [] {  // (17): of the low and of the high word
    std::array<std::array<uint64_t, 2>, kLongestKey + 2> kept{};
    for (size_t n = 0; n < kept.size(); ++n) {
      kept[n][0] = n >= 8 ? ~uint64_t{0} : (uint64_t{1} << 8 * n) - 1;
      kept[n][1] = n <= 8 ? 0 : (uint64_t{1} << 8 * ((n < 15 ? n : 15) - 8)) - 1;
    }
    return kept;
  }();
  PieceKey key;
  std::memcpy(&key.low, p, 8);
  std::memcpy(&key.high, p + 8, 8);
  key.low &= kKept[size][0];
  key.high = (key.high & kKept[size][1]) | uint64_t{size} << 56;
  return key;
}

struct PieceEntry {
  PieceKey key;
  std::array<uint32_t, kMostInline> ids;  // those past the last are 0; the number is in the first's top byte
  uint32_t count() const { return ids[0] >> 24; }
  // Writes four, of which count() are ids, and returns count().
  uint32_t copy(int32_t* out) const {
    std::memcpy(out, ids.data(), sizeof ids);
    out[0] &= 0xFFFFFF;
    return count();
  }
  static PieceEntry of(const PieceKey& key, const int32_t* ids, size_t count) {  // count <= 4, ids < 2^24
    PieceEntry entry{key, {}};
    for (size_t i = 0; i < count; ++i) entry.ids[i] = static_cast<uint32_t>(ids[i]);
    entry.ids[0] |= static_cast<uint32_t>(count) << 24;
    return entry;
  }
};
struct alignas(64) PieceLine {
  std::array<PieceEntry, 2> entries;
  // Which of the two it is would be a branch that nobody can guess.
  const PieceEntry* find(const PieceKey& key) const {
    const bool first = entries[0].key == key, second = entries[1].key == key;
    return first | second ? &entries[second] : nullptr;
  }
};

class PieceLines {
 public:
  explicit PieceLines(size_t lines = 2)  // a power of two
      : lines_(lines, PieceLine{}), shift_(64 - std::countr_zero(lines)) {}
  PieceLine& operator[](uint64_t hash) { return lines_[hash >> shift_]; }
  const PieceLine& operator[](uint64_t hash) const { return lines_[hash >> shift_]; }
  PieceLine* after(const PieceLine* line) const {
    return lines_.data() + ((static_cast<size_t>(line - lines_.data()) + 1) & (lines_.size() - 1));
  }

 private:
  HugeArray<PieceLine> lines_;
  int shift_;
};

constexpr size_t kMostInFront = size_t{1} << 15;  // 1 MiB

// One place for a hash, and the last one put there has it.
class PieceFront {
 public:
  explicit PieceFront(size_t entries = 2)  // a power of two
      : entries_(entries, PieceEntry{}), shift_(64 - std::countr_zero(entries)) {}
  PieceEntry& operator[](uint64_t hash) { return entries_[hash >> shift_]; }
  const PieceEntry& operator[](uint64_t hash) const { return entries_[hash >> shift_]; }

 private:
  HugeArray<PieceEntry> entries_;
  int shift_;
};

class PieceIds {
 public:
  explicit PieceIds(size_t pieces = 0);
  void add(const PieceEntry& entry);  // at most as many as told; keys differ
  void prefetch(uint64_t hash) const { __builtin_prefetch(&lines_[hash]); }
  const PieceEntry* find(const PieceKey& key, uint64_t hash) const {
    for (const PieceLine* line = &lines_[hash];; line = lines_.after(line)) {
      const PieceEntry* found = line->find(key);
      if (found || line->entries[1].key.high == 0) return found;  // a line with a free place ends a search
    }
  }

 private:
  PieceLines lines_;
};

// Two places per line, the older of which gives way; pieces of 16 to kLongestKept bytes in a part of
// their own. One thread at a time.
class PieceCache {
 public:
  static constexpr size_t kLongestKept = 240, kMostKept = 62;
  explicit PieceCache(size_t bytes);  // at most so many are used, and at least 1 KiB
  void prefetch(uint64_t hash) const { __builtin_prefetch(&lines_[hash]); }
  const PieceEntry* find(const PieceKey& key, uint64_t hash) const { return lines_[hash].find(key); }
  void put(const PieceEntry& entry, uint64_t hash) {
    PieceLine& line = lines_[hash];
    line.entries[1] = line.entries[0];
    line.entries[0] = entry;
  }
  struct Long {
    uint32_t size = 0, count = 0;
    std::array<char, kLongestKept> bytes{};
    std::array<int32_t, kMostKept> ids{};
  };
  PieceFront& front() { return front_; }
  // The place of a longer piece: it holds the piece, or another that it may take the place of.
  Long& long_place(std::string_view piece);

 private:
  PieceFront front_;
  PieceLines lines_;
  std::vector<Long> longs_;
};

}  // namespace llmctl
