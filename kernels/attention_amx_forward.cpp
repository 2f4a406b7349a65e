// SPDX-License-Identifier: Apache-2.0
// AttnFwd on the CPU in the order amx32. A task is one KV head and up to 32 rows: two tiles high.
// Pages of K and V are right tiles as they lie; the weights of a row, rounded, are a row of left tiles.
#include "kernels/attention_amx.h"
#include "kernels/attention_rows.h"
#include "kernels/simd.h"
#include "kernels/transpose.h"

namespace llmctl::kn {
namespace KN_NS {

namespace {

constexpr int kRows = 32;
constexpr int64_t kPagePairs = kPageTokens / 2, kSegmentPages = kSegmentKeys / kPageTokens;

struct Rows : RowBlock<bf16_t, kRows> {
  alignas(64) float segment[kRows * kMaxHeadDim];  // O of the segment at hand
  const char* v[kSegmentPages];                    // its pages
  // Copies of what is not a whole tile as it lies: the last block of K's D, pages of V.
  alignas(64) Pair k_tail[kPagePairs * kPageTokens];
  alignas(64) Pair v_copy[kSegmentPages][kPagePairs * kMaxHeadDim];
};

// Scores of the segment's first n keys, in whole pages; slots beyond n may hold anything.
template <class Product>
void score_segment(Product& product, const Where& w, Rows& b, int64_t key, int64_t n) {
  const int64_t d = w.a.qkv.dim[2], whole = d / 32, rest = (d + 1) / 2 - whole * kBlockPairs;
  for (int64_t k = 0; k < n; k += kPageTokens) {
    const Pair* page = reinterpret_cast<const Pair*>(w.page<bf16_t>(w.a.kv.k, key, k / kPageTokens));
    BlockProduct<PairRows> p{b.q,          b.kQ, pairs_at(page, kPageTokens), whole, b.rows, 2, b.s + k,
                             kSegmentKeys, false};
    if (whole > 0) product(p);
    if (rest == 0) continue;
    std::memset(b.k_tail, 0, sizeof b.k_tail);
    std::memcpy(b.k_tail, page + whole * kBlockPairs * kPageTokens,
                static_cast<size_t>(rest * kPageTokens) * 4);
    p.left += whole * kBlockPairs, p.right = pairs_at(b.k_tail, kPageTokens), p.blocks = 1,
                                   p.resume = whole > 0;
    product(p);
  }
}

// One value for each of 16 rows from their vectors: max16 or sum16 of simd.h, rows being lanes.
template <class Join>
KN_INLINE F32 join_lanes(const F32 (&rows)[16], Join&& join) {
  I32 turned[16];
  for (int i = 0; i < 16; ++i) turned[i] = bits(rows[i]);
  transpose16(turned);
  F32 x[16];
  for (int i = 0; i < 16; ++i) x[i] = from_bits(turned[i]);
  for (int w = 8; w > 0; w /= 2)
    for (int i = 0; i < w; ++i) x[i] = join(x[i], x[i + w]);
  return x[0];
}

// The largest scaled score of each lane for n keys.
KN_INLINE F32 top_scores(const float* s, F32 scale, int64_t n) {
  const F32 lowest = set1(-3.4028234e38f);
  F32 top = lowest;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) top = max(top, mul(load(s + i), scale));
  return i == n ? top : max(top, select(below(n - i), mul(load(s + i), scale), lowest));
}

// Weights of one row for its n keys, +0 up to `filled` keys; the sum of each lane.
KN_INLINE F32 weigh_row(const float* s, bf16_t* p, F32 scale, F32 m, int64_t n, int64_t filled) {
  auto weight = [&](int64_t i) { return math::exp(sub(mul(load(s + i), scale), m)); };
  F32 sum = zero();
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const F32 x = weight(i), y = weight(i + 16);
    sum = add(add(sum, x), y);
    store_bf16(p + i, x, y);
  }
  for (; i < filled; i += 16) {
    const F32 x = i < n ? select(below(n - i), weight(i), zero()) : zero();
    sum = add(sum, x);
    store_bf16(p + i, x);
  }
  return sum;
}

// Weights of rows [r, r + 16) for the segment's n keys, and the factors by which each row's (l, O)
// takes the segment in.
void weigh_rows(Rows& b, float by, int64_t r, int64_t key, int64_t n) {
  const int64_t filled = (n + kPageTokens - 1) / kPageTokens * kPageTokens,
                rows = b.rows - r < 16 ? b.rows - r : 16;
  const F32 scale = set1(by);
  int32_t own[16];
  F32 each[16];
  for (int64_t i = 0; i < 16; ++i) {
    const int64_t seen = i < rows ? b.limit[r + i] - key : 0;
    own[i] = static_cast<int32_t>(seen < 0 ? 0 : seen < n ? seen : n);
    each[i] = own[i] > 0 ? top_scores(b.s + (r + i) * kSegmentKeys, scale, own[i]) : zero();
  }
  const F32 m = join_lanes(each, [](F32 a, F32 c) { return max(a, c); });
  alignas(64) float tops[16];
  store(tops, m);
  for (int64_t i = 0; i < rows; ++i)
    each[i] = weigh_row(b.s + (r + i) * kSegmentKeys, reinterpret_cast<bf16_t*>(b.p + (r + i) * b.kP), scale,
                        set1(tops[i]), own[i], filled);
  const F32 l = join_lanes(each, [](F32 a, F32 c) { return add(a, c); });
  if (key == 0) return store(b.m + r, m), store(b.l + r, l);
  const F32 old = load(b.m + r), top = max(m, old), keep = math::exp(sub(old, top)),
            take = math::exp(sub(m, top));
  const Mask here = ilt(iset1(0), iload(own));
  store(b.keep + r, keep), store(b.take + r, take);
  store(b.l + r, select(here, fma(load(b.l + r), keep, mul(l, take)), load(b.l + r)));
  store(b.m + r, select(here, top, old));
}

// `here` keys of a page of V, what else a tile takes in being +0.
void copy_values(const Pair* page, int64_t here, int64_t d, int64_t padded, Pair* to) {
  std::memset(to, 0, static_cast<size_t>(kPagePairs * padded) * 4);
  for (int64_t i = 0; i < (here + 1) / 2; ++i)
    for (int64_t c = 0; c < d; c += 16) {
      const int64_t left = d - c < 16 ? d - c : 16;
      const I32 pairs = load_words(page + i * d + c, left);
      istore(to + i * padded + c, 2 * i + 1 < here ? pairs : iand(pairs, iset1(0xffff)));
    }
}

// Pages of V for the segment's first n keys. Slots of keys that the sequence does not have may hold
// anything, and +0 times NaN is NaN.
void place_values(const Where& w, Rows& b, int64_t key, int64_t n, int64_t padded) {
  const int64_t d = w.a.qkv.dim[2];
  for (int64_t i = 0; i * kPageTokens < n; ++i) {
    const Pair* page = reinterpret_cast<const Pair*>(w.page<bf16_t>(w.a.kv.v, key, i));
    const int64_t left = w.seq.keys - key - i * kPageTokens, here = left < kPageTokens ? left : kPageTokens;
    const bool copy = here < kPageTokens || padded != d;
    if (copy) copy_values(page, here, d, padded, b.v_copy[i]);
    b.v[i] = reinterpret_cast<const char*>(copy ? b.v_copy[i] : page);
  }
}

template <class Product>
void add_values(Product& product, const Where& w, Rows& b, int64_t key, int64_t n) {
  const int64_t padded = (w.a.qkv.dim[2] + 15) / 16 * 16;
  place_values(w, b, key, n, padded);
  product(BlockProduct<PairPages>{b.p, b.kP, PairPages{b.v, padded * 4, kLanes * 4},
                                  (n + kPageTokens - 1) / kPageTokens, b.rows, padded / 16, b.segment, padded,
                                  false});
  for (int64_t r = 0; r < b.rows; ++r) {
    if (b.limit[r] <= key) continue;
    const F32 keep = set1(b.keep[r]), take = set1(b.take[r]);
    for (int64_t i = 0; i < padded; i += 16)
      merge_values(b.o + r * kMaxHeadDim + i, load(b.segment + r * padded + i), keep, take, key == 0);
  }
}

template <class Product>
void attend(Product& product, const Where& w, int64_t rows) {
  Rows b;
  b.rows = b.height = rows;
  load_rows<bf16_t>(w, b, (w.a.qkv.dim[2] + 31) / 32 * kBlockPairs);
  const int64_t keys = b.limit[rows - 1];
  for (int64_t key = 0; key < keys; key += kSegmentKeys) {
    const int64_t n = keys - key < kSegmentKeys ? keys - key : kSegmentKeys;
    score_segment(product, w, b, key, n);
    for (int64_t r = 0; r < rows; r += 16) weigh_rows(b, w.a.scale, r, key, n);
    add_values(product, w, b, key, n);
  }
  store_rows<bf16_t>(w, b);
}

}  // namespace

void attend_blocks(const AttnFwd& a, const Exec& ex) {
  for_row_blocks(a, ex, kRows, [&](const Where& w, int64_t rows) {
    with_block_products(ex, [&](auto& product) { attend(product, w, rows); });
  });
}

}  // namespace KN_NS
}  // namespace llmctl::kn
