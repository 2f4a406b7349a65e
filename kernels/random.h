// SPDX-License-Identifier: Apache-2.0
// Randomness as a pure function of (seed, step, stream, index) (NUMERICS rule 18): no state, no rank,
// the same bits on the host and in CUDA. Philox4x32-10 (Salmon et al., "Parallel random numbers: as
// easy as 1, 2, 3", 2011) and what is made of its words.
#pragma once

#include "kernels/math.h"

namespace llmctl::kn {

// A place to draw from. Streams are logical names given numbers by the caller.
struct RandomKey {
  uint64_t seed = 0;
  uint32_t step = 0;
  uint32_t stream = 0;
};

struct RandomWords {
  uint32_t word[4];
};

KN_MATH RandomWords philox(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  uint32_t c0 = static_cast<uint32_t>(counter_low), c1 = static_cast<uint32_t>(counter_low >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_high), c3 = static_cast<uint32_t>(counter_high >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(c0) * 0xD2511F53u, p1 = static_cast<uint64_t>(c2) * 0xCD9E8D57u;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0,
                   n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// The four words at an index; words at different (key, index) are independent.
KN_MATH RandomWords random_words(const RandomKey& key, uint64_t index) {
  return philox(key.seed, index, static_cast<uint64_t>(key.stream) << 32 | key.step);
}

// Strictly between 0 and 1, exact: 23 bits and a half, 32 bits and a half.
KN_MATH float uniform_f32(uint32_t word) {
  return (static_cast<float>(word >> 9) + 0.5f) * 0x1p-23f;
}
KN_MATH double uniform_f64(uint32_t word) {
  return (static_cast<double>(word) + 0.5) * 0x1p-32;
}
KN_MATH double random_uniform(const RandomKey& key, uint64_t index) {
  return uniform_f64(random_words(key, index).word[0]);
}

// Standard normal by Box and Muller, |x| < 6.8.
KN_MATH double random_normal(const RandomKey& key, uint64_t index) {
  const RandomWords w = random_words(key, index);
  const double radius = math::sqrt64(-2.0 * log64(uniform_f64(w.word[0])));
  return radius * cos64(6.283185307179586 * uniform_f64(w.word[1]));
}

// 0..n-1, 1 <= n <= 2^32, every value with the same chance: products whose low half falls in the
// uneven remainder are drawn again (Lemire 2019).
KN_MATH uint64_t random_below(const RandomKey& key, uint64_t index, uint64_t n) {
  const uint64_t uneven = (uint64_t{1} << 32) % n;
  for (uint64_t attempt = 0;; ++attempt) {
    RandomKey k = key;
    k.seed += attempt * 0x9E3779B97F4A7C15u;
    const RandomWords w = random_words(k, index);
    for (int i = 0; i < 4; ++i) {
      const uint64_t product = w.word[i] * n;
      if ((product & 0xffffffffu) >= uneven) return product >> 32;
    }
  }
}

// A bijection of 64 bits that spreads every input bit (Stafford's variant 13 of MurmurHash3's end).
KN_MATH constexpr uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// A keyed permutation of 0..n-1 without a table: six Feistel rounds on the smallest even number of
// bits that holds n, walked until the value is below n (four steps on average at most). For the
// order of documents in an epoch: at(i) is the i-th.
struct Permutation {
  uint64_t n = 1, seed = 0;
  int half_bits = 1;

  Permutation(const RandomKey& key, uint64_t count) : n(count) {
    const RandomWords w = random_words(key, ~uint64_t{0});
    seed = static_cast<uint64_t>(w.word[1]) << 32 | w.word[0];
    while (half_bits < 32 && (uint64_t{1} << (2 * half_bits)) < n) ++half_bits;
  }
  uint64_t at(uint64_t i) const {
    do i = once(i);
    while (i >= n);
    return i;
  }

 private:
  uint64_t once(uint64_t x) const {
    const uint64_t mask = (uint64_t{1} << half_bits) - 1;
    uint64_t left = x >> half_bits, right = x & mask;
    for (uint64_t round = 1; round <= 6; ++round) {
      const uint64_t next = left ^ (mix64(seed + round * 0x9E3779B97F4A7C15u + mix64(right)) & mask);
      left = right;
      right = next;
    }
    return left << half_bits | right;
  }
};

}  // namespace llmctl::kn
