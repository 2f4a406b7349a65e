// SPDX-License-Identifier: Apache-2.0
// Randomness as a function: the n-th number of a named stream, and permutations computed one element
// at a time. Integers only, so results are the same on every machine.
// Mixing function: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014),
// with Stafford's variant 13 constants.
#pragma once

#include <cstdint>

namespace llmctl {

inline uint64_t mix_bits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}
inline uint64_t keyed_bits(uint64_t key, uint64_t counter) {
  return mix_bits(mix_bits(key + 0x9E3779B97F4A7C15ull) ^
                  mix_bits(counter * 0x9E3779B97F4A7C15ull + 0x632BE59BD9B4E019ull));
}

// A stream read from its start.
class CounterRandom {
 public:
  CounterRandom(uint64_t seed, uint64_t stream) : key_(keyed_bits(seed, stream)) {}
  uint64_t bits() { return keyed_bits(key_, counter_++); }
  // In [0, n), n > 0. The bias of n / 2^64 is accepted.
  uint64_t below(uint64_t n) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(bits()) * n) >> 64);
  }
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(below(static_cast<uint64_t>(high - low + 1)));
  }
  bool chance(uint64_t percent) { return below(100) < percent; }

 private:
  uint64_t key_, counter_ = 0;
};

// A keyed permutation of [0, n): a balanced Feistel network over the next even power of two, walked
// until it lands inside (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
class Permutation {
 public:
  Permutation(uint64_t n, uint64_t key) : n_(n), key_(key) {
    while ((uint64_t{1} << (2 * half_)) < n && half_ < 31) ++half_;
  }
  uint64_t operator()(uint64_t i) const {
    do i = shuffle(i);
    while (i >= n_);
    return i;
  }

 private:
  uint64_t shuffle(uint64_t x) const {
    const uint64_t mask = (uint64_t{1} << half_) - 1;
    uint64_t left = x >> half_, right = x & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const uint64_t next = left ^ (keyed_bits(key_ + round * 0x9E3779B97F4A7C15ull, right) & mask);
      left = right;
      right = next;
    }
    return (left << half_) | right;
  }
  uint64_t n_, key_;
  int half_ = 1;
};

}  // namespace llmctl
