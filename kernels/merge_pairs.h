// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding of one short piece: join the pair of lowest rank, leftmost first, until no pair of
// neighbours has one (Sennrich et al. 2016, arXiv 1508.07909). Ranks of all pairs stand side by side, so
// that the lowest is found many at a time.
// bits: exact; every instruction set gives the same symbols.
#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace llmctl::kn {

// A table of pairs, made once. Symbols are below 2^21 - 1, ranks below 2^22 - 1.
struct PairRanks {
  static constexpr uint32_t kNone = (1u << 22) - 1;
  const uint32_t* bytes = nullptr;   // (256,256): rank of the pair of two single bytes, or kNone
  const uint64_t* slots = nullptr;   // left << 43 | right << 22 | rank; ~0 is empty. Two to a bucket
  const uint32_t* joined = nullptr;  // by rank: the symbol; null: first_joined + rank
  uint32_t first_joined = 0;
  const uint32_t* symbols = nullptr;  // (256): of single bytes
  int shift = 0;                      // 64 - log2(slots)
  uint64_t mask = 0;                  // slots - 1

  static uint64_t key(uint64_t left, uint64_t right) { return left << 43 | right << 22; }
  uint64_t home(uint64_t key) const { return ((key >> 22) * 0x9E3779B97F4A7C15u >> shift) & ~uint64_t{1}; }
  // Both places of a bucket are looked at without a branch; a full one is followed by the next.
  uint32_t rank(uint64_t left, uint64_t right) const {
    const uint64_t wanted = key(left, right);
    for (uint64_t at = home(wanted);; at = (at + 2) & mask) {
      const uint64_t a = slots[at], b = slots[at + 1];
      uint64_t found = (a ^ wanted) < kNone ? a : kNone;
      found = (b ^ wanted) < kNone ? b : found;
      if (__builtin_expect((found != kNone) | (b == ~uint64_t{0}), 1))
        return static_cast<uint32_t>(found & kNone);
    }
  }
};

constexpr int64_t kLongestMerge = 240, kShortMerge = 16;  // bytes
// A piece of 1 to kShortMerge bytes, and room for an id per byte.
struct ShortMerge {
  const uint8_t* piece = nullptr;
  int64_t size = 0;
  int32_t* ids = nullptr;
  int64_t count = 0;  // of ids, filled in
};
struct PairMergers {
  // Writes the symbols of piece[0, size), 1 <= size <= kLongestMerge, and returns how many.
  int64_t (*one)(const PairRanks&, const uint8_t* piece, int64_t size, int32_t* out) = nullptr;
  void (*many)(const PairRanks&, ShortMerge* merges, int64_t n) = nullptr;
};
PairMergers pair_mergers(Isa isa);

}  // namespace llmctl::kn
