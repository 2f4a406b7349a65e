// SPDX-License-Identifier: Apache-2.0
// The hash behind digests of tensors: 128 bits over logical tiles of 64 rows x 256 columns
// (optimizer.h), order-free, for finding changed bits; it is no defence against an adversary.
//
// A row of a tile, n <= 256 elements, is read as 32-bit words by its dtype: f32, i32 one word an
// element; bf16, f16 one word, zero-extended; i64 two words, low first. Words past the end are 0.
//   s1 = sum over pairs (w[2j] + K[2j]) * (w[2j+1] + K[2j+1])        mod 2^64, operands mod 2^32
//   s2 = the same with keys 16 places further on
// which is NH with a Toeplitz shift (Black et al., "UMAC", 1999): a change goes unseen by one sum
// with chance 2^-32. row_hash() ends it with the tensor's key, the tile, the row and n;
// a tile's hash is the sum of its rows' and a tensor's the sum of its tiles', mod 2^128.
// Cost on 16 words: two loads and eight vector instructions; a row's end fourteen multiplications.
#pragma once

#include "kernels/random.h"

namespace llmctl::kn {

struct Hash128 {
  uint64_t low = 0, high = 0;
};
KN_MATH Hash128 operator+(Hash128 a, Hash128 b) {
  const uint64_t low = a.low + b.low;
  return {low, a.high + b.high + (low < a.low ? 1 : 0)};
}

// 512 words of a row of i64 and the shift.
constexpr int kHashKeys = 528;
KN_MATH constexpr uint32_t hash_key(int i) {
  return static_cast<uint32_t>(mix64(0x9E3779B97F4A7C15u * static_cast<uint64_t>(i + 1)) >> 32);
}

struct RowSums {
  uint64_t s1 = 0, s2 = 0;
};
// The pair at words 2j, 2j+1 with j = pair.
KN_MATH RowSums hash_pair(uint32_t w0, uint32_t w1, int pair) {
  const int i = 2 * pair;
  const uint32_t a0 = w0 + hash_key(i), a1 = w1 + hash_key(i + 1);
  const uint32_t b0 = w0 + hash_key(i + 16), b1 = w1 + hash_key(i + 17);
  return {static_cast<uint64_t>(a0) * a1, static_cast<uint64_t>(b0) * b1};
}

// Where a row stands: the tensor's key, its tile's coordinates, its place in the tile, its elements.
struct RowPlace {
  uint64_t key;
  int64_t tile_row, tile_col;
  int row, n;
};
KN_MATH Hash128 row_hash(RowSums s, const RowPlace& p) {
  const uint64_t tile = static_cast<uint64_t>(p.tile_row) << 32 | static_cast<uint32_t>(p.tile_col);
  const uint64_t row = static_cast<uint64_t>(p.row) << 32 | static_cast<uint32_t>(p.n);
  const uint64_t place = mix64(p.key + mix64(tile + mix64(row + 0x632BE59BD9B4E019u)));
  return {mix64(mix64(s.s1 + place) ^ s.s2), mix64(mix64(s.s2 + ~place) ^ s.s1)};
}

#ifdef KN_ISA
struct HashKeyTable {
  alignas(64) uint32_t key[kHashKeys];
  constexpr HashKeyTable() : key() {
    for (int i = 0; i < kHashKeys; ++i) key[i] = hash_key(i);
  }
};
static constexpr HashKeyTable kHashKeyTable;

// The sums of a row, 16 words at a time; `place` is the first word's number, a multiple of 16. The
// caller hands over vectors whose missing lanes are 0.
#if KN_ISA >= 2
struct RowHasher {
  __m512i s1, s2;
};
KN_INLINE RowHasher row_hasher() {
  return {_mm512_setzero_si512(), _mm512_setzero_si512()};
}
KN_INLINE __m512i pair_products(__m512i words, const uint32_t* key) {
  __m512i t = _mm512_add_epi32(words, _mm512_load_si512(key));
  return _mm512_mul_epu32(t, _mm512_srli_epi64(t, 32));
}
KN_INLINE void hash_words(RowHasher& h, I32 w, int place) {
  h.s1 = _mm512_add_epi64(h.s1, pair_products(w.v, kHashKeyTable.key + place));
  h.s2 = _mm512_add_epi64(h.s2, pair_products(w.v, kHashKeyTable.key + place + 16));
}
KN_INLINE uint64_t sum_of(__m512i s) {
  return static_cast<uint64_t>(_mm512_reduce_add_epi64(s));
}
#elif KN_ISA == 1
struct RowHasher {
  __m256i s1, s2;
};
KN_INLINE RowHasher row_hasher() {
  return {_mm256_setzero_si256(), _mm256_setzero_si256()};
}
KN_INLINE __m256i pair_products(__m256i words, const uint32_t* key) {
  __m256i t = _mm256_add_epi32(words, _mm256_load_si256(reinterpret_cast<const __m256i*>(key)));
  return _mm256_mul_epu32(t, _mm256_srli_epi64(t, 32));
}
KN_INLINE void hash_words(RowHasher& h, I32 w, int place) {
  const uint32_t* key = kHashKeyTable.key + place;
  h.s1 = _mm256_add_epi64(h.s1, _mm256_add_epi64(pair_products(w.a, key), pair_products(w.b, key + 8)));
  h.s2 = _mm256_add_epi64(h.s2, _mm256_add_epi64(pair_products(w.a, key + 16), pair_products(w.b, key + 24)));
}
KN_INLINE uint64_t sum_of(__m256i s) {
  uint64_t t[4];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(t), s);
  return t[0] + t[1] + t[2] + t[3];
}
#elif KN_ISA == -1
struct RowHasher {
  uint64x2_t s1, s2;
};
KN_INLINE RowHasher row_hasher() {
  return {vdupq_n_u64(0), vdupq_n_u64(0)};
}
KN_INLINE void hash_words(RowHasher& h, I32 w, int place) {
  const uint32_t* key = kHashKeyTable.key + place;
  h.s1 = add_products(add_products(h.s1, w.a, w.b, key), w.c, w.d, key + 8);
  h.s2 = add_products(add_products(h.s2, w.a, w.b, key + 16), w.c, w.d, key + 24);
}
KN_INLINE uint64_t sum_of(uint64x2_t s) {
  return vaddvq_u64(s);
}
#else
struct RowHasher {
  uint64_t s1, s2;
};
KN_INLINE RowHasher row_hasher() {
  return {0, 0};
}
KN_INLINE void hash_words(RowHasher& h, I32 w, int place) {
  const uint32_t* key = kHashKeyTable.key + place;
  for (int i = 0; i < kLanes; i += 2) {
    const uint32_t w0 = static_cast<uint32_t>(w.v[i]), w1 = static_cast<uint32_t>(w.v[i + 1]);
    h.s1 += static_cast<uint64_t>(w0 + key[i]) * (w1 + key[i + 1]);
    h.s2 += static_cast<uint64_t>(w0 + key[i + 16]) * (w1 + key[i + 17]);
  }
}
KN_INLINE uint64_t sum_of(uint64_t s) {
  return s;
}
#endif
KN_INLINE RowSums sums_of(const RowHasher& h) {
  return {sum_of(h.s1), sum_of(h.s2)};
}
#endif

}  // namespace llmctl::kn
