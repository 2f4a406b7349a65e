// SPDX-License-Identifier: Apache-2.0
#include "kernels/merge_pairs.h"

#include "kernels/simd.h"

namespace llmctl::kn {

int64_t merge_pairs(KN_CPU, const PairRanks&, const uint8_t* piece, int64_t size, int32_t* out);
void merge_short(KN_CPU, const PairRanks&, ShortMerge* merges, int64_t n);

namespace {

// rank << 8 | place, so that the lowest is also the leftmost of its rank.
constexpr uint32_t kNothing = PairRanks::kNone << 8;

// Ranks of up to 16 pairs in registers, more in memory, where whole vectors are stored: a load of many
// would wait for the stores of single ones.
template <int blocks>
struct Ranks {
#if KN_ISA >= 2
  __m512i v[blocks];
  KN_INLINE void put(__m512i* to, uint32_t lane, uint32_t x) {
    *to = _mm512_mask_mov_epi32(*to, static_cast<__mmask16>(1u << lane),
                                _mm512_set1_epi32(static_cast<int>(x)));
  }
  void load(const uint32_t* p) {
    for (int b = 0; b < blocks; ++b) v[b] = _mm512_load_si512(p + b * 16);
  }
  void set(uint32_t at, uint32_t x) {
    put(&v[blocks == 1 ? 0 : at / 16], at % 16, x);
  }
  uint32_t lowest() const {
    __m512i low = v[0];
    for (int b = 1; b < blocks; ++b) low = _mm512_min_epu32(low, v[b]);
    return _mm512_reduce_min_epu32(low);
  }
#elif KN_ISA == 1
  __m256i v[blocks * 2];
  KN_INLINE void put(__m256i* to, uint32_t lane, uint32_t x) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i here = _mm256_cmpeq_epi32(lanes, _mm256_set1_epi32(static_cast<int>(lane)));
    *to = _mm256_blendv_epi8(*to, _mm256_set1_epi32(static_cast<int>(x)), here);
  }
  void load(const uint32_t* p) {
    for (int b = 0; b < blocks * 2; ++b) v[b] = _mm256_load_si256(reinterpret_cast<const __m256i*>(p) + b);
  }
  void set(uint32_t at, uint32_t x) {
    put(&v[at / 8], at % 8, x);
  }
  uint32_t lowest() const {
    __m256i low = _mm256_min_epu32(v[0], v[1]);
    for (int b = 2; b < blocks * 2; ++b) low = _mm256_min_epu32(low, v[b]);
    __m128i q = _mm_min_epu32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    q = _mm_min_epu32(q, _mm_shuffle_epi32(q, 0x4E));
    q = _mm_min_epu32(q, _mm_shuffle_epi32(q, 0xB1));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(q));
  }
#else
  uint32_t v[blocks * 16];
  void load(const uint32_t* p) {
    std::memcpy(v, p, sizeof v);
  }
  void set(uint32_t at, uint32_t x) {
    v[at] = x;
  }
  uint32_t lowest() const {
    uint32_t low = v[0];
    for (int i = 1; i < blocks * 16; ++i) low = v[i] < low ? v[i] : low;
    return low;
  }
#endif
};

// A piece on its way: symbols that are left, chained, and the ranks of their pairs.
template <int blocks>
struct Chain {
  static constexpr int kMost = blocks * 16;
  Ranks<blocks> ranks;
  uint32_t symbols[kMost];
  uint8_t next[kMost + 1], before[kMost + 1];
  uint32_t size, count;

  void begin(const PairRanks& table, const uint8_t* piece, int64_t bytes) {
    alignas(64) uint32_t first[kMost];
    size = count = static_cast<uint32_t>(bytes);
    for (uint32_t i = 0; i < size; ++i) {
      symbols[i] = table.symbols[piece[i]];
      next[i] = static_cast<uint8_t>(i + 1);
      before[i] = static_cast<uint8_t>(i - 1);
    }
    for (uint32_t i = 0; i + 1 < size; ++i) first[i] = table.bytes[piece[i] * 256 + piece[i + 1]] << 8 | i;
    for (uint32_t i = size - 1; i < kMost; ++i) first[i] = kNothing;
    ranks.load(first);
  }
  // Joins one pair; false when none is left that has a rank.
  bool step(const PairRanks& table) {
    const uint32_t low = ranks.lowest();
    if (low >= kNothing) return false;
    const uint32_t at = low & 255, gone = next[at], after = next[gone], left = before[at];
    const uint32_t joined = table.joined ? table.joined[low >> 8] : table.first_joined + (low >> 8);
    symbols[at] = joined;
    next[at] = static_cast<uint8_t>(after);
    before[after] = static_cast<uint8_t>(at);
    ranks.set(gone, kNothing);
    ranks.set(at, after < size ? table.rank(joined, symbols[after]) << 8 | at : kNothing);
    if (at > 0) ranks.set(left, table.rank(symbols[left], joined) << 8 | left);
    --count;
    return true;
  }
  int64_t end(int32_t* out) const {
    int64_t n = 0;
    for (uint32_t i = 0; n < count; i = next[i]) out[n++] = static_cast<int32_t>(symbols[i]);
    return n;
  }
};

template <int blocks>
int64_t merge_in(const PairRanks& table, const uint8_t* piece, int64_t size, int32_t* out) {
  Chain<blocks> chain;
  chain.begin(table, piece, size);
  while (chain.step(table)) {
  }
  return chain.end(out);
}

}  // namespace

int64_t merge_pairs(KN_CPU, const PairRanks& table, const uint8_t* piece, int64_t size, int32_t* out) {
  if (size <= 16) return merge_in<1>(table, piece, size, out);
  return size <= 48 ? merge_in<3>(table, piece, size, out) : merge_in<15>(table, piece, size, out);
}

// A step waits for the one before it and for the table; steps of other pieces do not.
void merge_short(KN_CPU, const PairRanks& table, ShortMerge* merges, int64_t n) {
  constexpr int kTogether = 8;
  Chain<1> chains[kTogether];
  for (int64_t from = 0; from < n; from += kTogether) {
    int open[kTogether], left = static_cast<int>(n - from < kTogether ? n - from : kTogether);
    for (int i = 0; i < left; ++i) {
      open[i] = i;
      chains[i].begin(table, merges[from + i].piece, merges[from + i].size);
    }
    while (left > 0)
      for (int i = 0; i < left;) {
        const int at = open[i];
        if (chains[at].step(table)) {
          ++i;
          continue;
        }
        merges[from + at].count = chains[at].end(merges[from + at].ids);
        open[i] = open[--left];
      }
  }
}

#if KN_ONCE
#ifdef __aarch64__
int64_t merge_pairs(Cpu<Isa::neon>, const PairRanks&, const uint8_t*, int64_t, int32_t*);
void merge_short(Cpu<Isa::neon>, const PairRanks&, ShortMerge*, int64_t);
#else
int64_t merge_pairs(Cpu<Isa::avx2>, const PairRanks&, const uint8_t*, int64_t, int32_t*);
int64_t merge_pairs(Cpu<Isa::avx512>, const PairRanks&, const uint8_t*, int64_t, int32_t*);
int64_t merge_pairs(Cpu<Isa::avx512_bf16>, const PairRanks&, const uint8_t*, int64_t, int32_t*);
void merge_short(Cpu<Isa::avx2>, const PairRanks&, ShortMerge*, int64_t);
void merge_short(Cpu<Isa::avx512>, const PairRanks&, ShortMerge*, int64_t);
void merge_short(Cpu<Isa::avx512_bf16>, const PairRanks&, ShortMerge*, int64_t);
#endif

namespace {
template <Isa isa>
int64_t merge_on(const PairRanks& table, const uint8_t* piece, int64_t size, int32_t* out) {
  return merge_pairs(Cpu<isa>{}, table, piece, size, out);
}
template <Isa isa>
void merge_short_on(const PairRanks& table, ShortMerge* merges, int64_t n) {
  merge_short(Cpu<isa>{}, table, merges, n);
}
}  // namespace

PairMergers pair_mergers(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return {merge_on<Isa::portable>, merge_short_on<Isa::portable>};
#ifdef __aarch64__
    case Isa::neon:
      return {merge_on<Isa::neon>, merge_short_on<Isa::neon>};
#else
    case Isa::avx2:
      return {merge_on<Isa::avx2>, merge_short_on<Isa::avx2>};
    case Isa::avx512:
      return {merge_on<Isa::avx512>, merge_short_on<Isa::avx512>};
    default:
      return {merge_on<Isa::avx512_bf16>, merge_short_on<Isa::avx512_bf16>};
#endif
  }
}
#endif

}  // namespace llmctl::kn
