// SPDX-License-Identifier: Apache-2.0
// AttnBwd on the CPU in the order amx32. A task is one document and one KV head. It packs the queries
// of its heads once; then it walks blocks of 64 keys, and for each the heads of the group and their
// queries from the diagonal on, in squares of 32 x 32 that stay in L1. Scores are computed keys down,
// so that P and dS are left operands of dV and dK as they are written, and lse and delta vectors; dS
// alone is turned, for dQ. dK and dV of a key block are finished in that walk, dQ is carried in fp32
// from key block to key block.
#include "kernels/attention_amx.h"
#include "kernels/attention_document.h"
#include "kernels/math.h"
#include "kernels/simd.h"
#include "kernels/transpose.h"

namespace llmctl::kn {
namespace KN_NS {

namespace {

constexpr int64_t kKeys = 64;      // of a key block
constexpr int64_t kQueries = 128;  // whose P and dS wait for one product
constexpr int64_t kBlock = 32;
constexpr int64_t kLevels = 8;  // of the tree over a group's heads: 128 heads

using Doc = Document<bf16_t>;

// Pairs along D of a row: whole blocks.
constexpr int64_t pairs_along(int64_t d) {
  return (d + kBlock - 1) / kBlock * kBlockPairs;
}

// Where things lie in the workspace, in 4-byte words: each (heads, T, ..). A document uses the places
// of its own rows; packed are its whole blocks of 32 queries.
struct Layout {
  int64_t lse, delta;  // 1
  int64_t qt, gt;      // pairs along D: Q and dO, [16 queries][pair][query]
  int64_t qp, gp;      // padded D / 2: the same, [pair of queries][D]
  int64_t dq;          // padded D
  int64_t words;
};
constexpr Layout layout_of(int64_t tokens, int64_t heads, int64_t d) {
  const int64_t rows = tokens * heads, along = pairs_along(d), padded = vectors_of(d) * 16;
  Layout l{};
  l.delta = vectors_of(rows) * 16;
  l.qt = l.delta * 2;
  l.gt = l.qt + rows * along;
  l.qp = l.gt + rows * along;
  l.gp = l.qp + rows * padded / 2;
  l.dq = l.gp + rows * padded / 2;
  l.words = l.dq + rows * padded;
  return l;
}

// Queries of one head, packed, from one on that starts a block.
struct Queries {
  Pair *qt, *gt, *qp, *gp;
  float *lse, *delta;
};

struct Task : Doc {
  Layout layout;
  int64_t along;
  explicit Task(const Doc& document)
      : Doc(document), layout(layout_of(tokens(), a.heads, d)), along(pairs_along(d)) {}

  template <class W>
  W* place(int64_t base, int64_t head, int64_t q, int64_t width) const {
    return a.work.as<W>() + base + (head * tokens() + seq.first_row + q) * width;
  }
  Queries queries(int64_t head, int64_t q) const {
    return {place<Pair>(layout.qt, head, q, along),      place<Pair>(layout.gt, head, q, along),
            place<Pair>(layout.qp, head, q, padded / 2), place<Pair>(layout.gp, head, q, padded / 2),
            place<float>(layout.lse, head, q, 1),        place<float>(layout.delta, head, q, 1)};
  }
  float* dq(int64_t head, int64_t q) const { return place<float>(layout.dq, head, q, padded); }
};

// The last queries of a document, fewer than a block.
struct Tail {
  alignas(64) Pair qt[kBlock * kMaxHeadDim / 2], gt[kBlock * kMaxHeadDim / 2];
  alignas(64) Pair qp[kBlock * kMaxHeadDim / 2], gp[kBlock * kMaxHeadDim / 2];
  alignas(64) float lse[kBlock], delta[kBlock];
  Queries queries() { return {qt, gt, qp, gp, lse, delta}; }
};

// What a key block needs, on the stack. Keys that are not there are +0.
struct KeyBlock {
  int64_t k0, n, rows;                                                      // rows: in whole blocks
  alignas(64) Pair k[kKeys * kMaxHeadDim / 2], v[kKeys * kMaxHeadDim / 2];  // rows of pairs along D
  alignas(64) Pair kp[kKeys / 2 * kMaxHeadDim];                             // K, [pair of keys][D]
  alignas(64) float s[kBlock * kBlock], dp[kBlock * kBlock];                // of a square, [key][query]
  alignas(64) Pair p[kKeys * kQueries / 2], dst[kKeys * kQueries / 2];      // P and dS rounded, [key][query]
  alignas(64) Pair ds[kBlock * kKeys / 2];                                  // dS of 32 queries, [query][key]
  alignas(64) float dk[kLevels][kKeys * kMaxHeadDim], dv[kLevels][kKeys * kMaxHeadDim];
};

// `rows` rows of d values, x_row apart, as pairs of rows; +0 up to `blocks` blocks.
void pack_pairs(const bf16_t* x, int64_t x_row, int64_t rows, int64_t blocks, int64_t d, Pair* to) {
  const int64_t padded = vectors_of(d) * 16;
  auto halves = [&](int64_t r, int64_t c) {
    if (r >= rows) return iset1(0);
    const bf16_t* from = x + r * x_row + c;
    return d - c >= 16 ? load_u16(from) : shr<16>(bits(load_bf16(from, d - c)));
  };
  for (int64_t i = 0; i < blocks * kBlockPairs; ++i)
    for (int64_t c = 0; c < padded; c += 16)
      istore(to + i * padded + c, ior(halves(2 * i, c), shl<16>(halves(2 * i + 1, c))));
}

// The same as pairs along D: panels of 16 rows.
void pack_along(const bf16_t* x, int64_t x_row, int64_t rows, int64_t blocks, int64_t d, Pair* to) {
  const int64_t along = pairs_along(d);
  if (rows < blocks * kBlock || d % kBlock != 0)
    std::memset(to, 0, static_cast<size_t>(blocks * kBlock * along) * 4);
  for (int64_t r = 0; r < rows; r += 16)
    transpose_rows(to + r * along, kLanes, x + r * x_row, x_row, rows - r < 16 ? rows - r : 16, d);
}

void pack_queries(const Task& t, int64_t head, int64_t q0, int64_t rows, const Queries& to) {
  const int64_t blocks = (rows + kBlock - 1) / kBlock;
  const bf16_t *q = t.row(q0, head), *g = t.dout(q0, head);
  const int64_t q_row = t.row_stride(), g_row = t.a.heads * t.d;
  pack_along(q, q_row, rows, blocks, t.d, to.qt);
  pack_along(g, g_row, rows, blocks, t.d, to.gt);
  pack_pairs(q, q_row, rows, blocks, t.d, to.qp);
  pack_pairs(g, g_row, rows, blocks, t.d, to.gp);
  for (int64_t r = 0; r < blocks * kBlock; ++r) {
    to.lse[r] = r < rows ? t.a.lse.as<float>()[t.at(q0 + r, head)] : 0.0f;
    to.delta[r] = r < rows ? row_delta<bf16_t>(t.a, t.at(q0 + r, head)) : 0.0f;
  }
}

void load_keys(const Task& t, KeyBlock& b) {
  for (int64_t r = 0; r < b.rows; ++r) {
    const bool here = r < b.n;
    copy_words(b.k + r * t.along, here ? t.key(b.k0 + r, false) : nullptr, here ? t.d : 0, t.along);
    copy_words(b.v + r * t.along, here ? t.key(b.k0 + r, true) : nullptr, here ? t.d : 0, t.along);
  }
  pack_pairs(reinterpret_cast<const bf16_t*>(b.k), t.along * 2, b.rows, b.rows / kBlock, t.d, b.kp);
}

// p and ds of 16 queries and one key from its scores and dP, to `to`. The key is seen from lane `first`
// on.
template <bool diagonal>
KN_INLINE F32 weigh(KeyBlock& b, int64_t from, int64_t to, F32 scale, F32 lse, F32 delta, int64_t first) {
  F32 p = zero(), ds = zero();
  if (!diagonal || first < 16) {
    p = math::exp(sub(mul(load(b.s + from), scale), lse));
    ds = mul(mul(p, sub(load(b.dp + from), delta)), scale);
    if (diagonal && first > 0) {
      const Mask before = below(first);
      p = select(before, zero(), p), ds = select(before, zero(), ds);
    }
  }
  store_bf16(reinterpret_cast<bf16_t*>(b.p) + to, p);
  store_bf16(reinterpret_cast<bf16_t*>(b.dst) + to, ds);
  return ds;
}

// The weights of a square: keys from k on, queries from q on; and its dS turned. On the diagonal the first
// key is `ahead` keys ahead of the first query's own.
template <bool diagonal>
void weigh_square(KeyBlock& b, const Queries& packed, float by, int64_t q, int64_t k, int64_t ahead) {
  const F32 scale = set1(by);
  for (int64_t c = 0; c < kBlock; c += 16) {
    const F32 lse = load(packed.lse + q + c), delta = load(packed.delta + q + c);
    I32 turned[16];
    for (int64_t i = 0; i < kBlockPairs; ++i) {
      const int64_t from = 2 * i * kBlock + c, to = (k + 2 * i) * kQueries + q + c,
                    first = 2 * i - c + ahead;
      const F32 even = weigh<diagonal>(b, from, to, scale, lse, delta, first);
      const F32 odd = weigh<diagonal>(b, from + kBlock, to + kQueries, scale, lse, delta, first + 1);
      turned[i] = ior(round_bf16(even), shl<16>(round_bf16(odd)));
    }
    transpose16(turned);
    for (int64_t i = 0; i < 16; ++i) istore(b.ds + ((c + i) * kKeys + k) / 2, turned[i]);
  }
}

// Queries [q0, q0 + n) of a head, n whole blocks, packed at `from`.
struct QueryBlock {
  int64_t head, q0, n;
  Queries from;
};

// P and dS of the block, and its share of dQ.
template <class Product>
void weigh_queries(Product& product, const Task& t, KeyBlock& b, const QueryBlock& qs) {
  using P = BlockProduct<PairRows>;
  const int64_t steps = t.along / kBlockPairs, panel = t.along * kLanes;
  for (int64_t q = 0; q < qs.n; q += kBlock) {
    const PairRows qt = pairs_at(qs.from.qt + q * t.along, kLanes, panel);
    const PairRows gt = pairs_at(qs.from.gt + q * t.along, kLanes, panel);
    const int64_t own = t.before + qs.q0 + q - b.k0;  // the first query's, from the block's start
    const int64_t seen = (own + 2 * kBlock - 1) / kBlock * kBlock, keys = seen < b.rows ? seen : b.rows;
    for (int64_t k = 0; k < keys; k += kBlock) {
      product(P{b.k + k * t.along, t.along, qt, steps, kBlock, 2, b.s, kBlock, false});
      product(P{b.v + k * t.along, t.along, gt, steps, kBlock, 2, b.dp, kBlock, false});
      if (k + kBlock > own + 1)
        weigh_square<true>(b, qs.from, t.a.scale, q, k, k - own);
      else
        weigh_square<false>(b, qs.from, t.a.scale, q, k, 0);
    }
    const int64_t left = t.seq.queries - qs.q0 - q, rows = left < kBlock ? left : kBlock;
    product(P{b.ds, kKeys / 2, pairs_at(b.kp, t.padded), keys / kBlock, rows, t.padded / 16,
              t.dq(qs.head, qs.q0 + q), t.padded, b.k0 > 0});
  }
}

// The block's share of dK and dV, in the sums of `level`; for each 32 keys from the queries on that see
// them.
template <class Product>
void add_queries(Product& product, const Task& t, KeyBlock& b, const QueryBlock& qs, int64_t level) {
  auto add_to = [&](float* sums, const Pair* weights, const Pair* rows, int64_t k, int64_t skip) {
    product(BlockProduct<PairRows>{weights + (k * kQueries + skip) / 2, kQueries / 2,
                                   pairs_at(rows + skip / 2 * t.padded, t.padded), (qs.n - skip) / kBlock,
                                   kBlock, t.padded / 16, sums + k * t.padded, t.padded, true});
  };
  for (int64_t k = 0; k < b.rows; k += kBlock) {
    const int64_t first = b.k0 + k - t.before - qs.q0;  // query that sees the first of them
    const int64_t skip = first > 0 ? first / kBlock * kBlock : 0;
    if (skip >= qs.n) break;
    add_to(b.dv[level], b.p, qs.from.gp, k, skip);
    add_to(b.dk[level], b.dst, qs.from.qp, k, skip);
  }
}

// One head's dK and dV of the key block, in the sums of `level`.
template <class Product>
void head_block(Product& product, const Task& t, KeyBlock& b, Tail& tail, int64_t level, int64_t head) {
  const int64_t queries = t.seq.queries, whole = queries / kBlock * kBlock;
  const int64_t sees = b.k0 > t.before ? b.k0 - t.before : 0;  // the first query that sees a key
  std::memset(b.dk[level], 0, static_cast<size_t>(b.rows * t.padded) * 4);
  std::memset(b.dv[level], 0, static_cast<size_t>(b.rows * t.padded) * 4);
  auto take = [&](const QueryBlock& qs) {
    weigh_queries(product, t, b, qs);
    add_queries(product, t, b, qs, level);
  };
  for (int64_t q0 = sees / kBlock * kBlock; q0 < whole; q0 += kQueries)
    take({head, q0, whole - q0 < kQueries ? whole - q0 : kQueries, t.queries(head, q0)});
  if (whole < queries) {
    pack_queries(t, head, whole, queries - whole, tail.queries());
    take({head, whole, kBlock, tail.queries()});
  }
  // Queries within the block see no later key: their dQ is complete.
  for (int64_t q = sees; t.before + q < b.k0 + b.n; ++q) finish_row(t.drow(q, head), t.dq(head, q), t.d);
}

// Heads join like the bits of a counter: equal subtrees merge, what is left folds from the right.
template <class Product>
void key_block(Product& product, const Task& t, KeyBlock& b, Tail& tail) {
  const int64_t group = t.group();
  load_keys(t, b);
  int64_t level = 0;
  auto merge = [&] {
    --level;
    for (int64_t i = 0; i < b.rows * t.padded; i += 16) {
      store(b.dk[level - 1] + i, add(load(b.dk[level - 1] + i), load(b.dk[level] + i)));
      store(b.dv[level - 1] + i, add(load(b.dv[level - 1] + i), load(b.dv[level] + i)));
    }
  };
  for (int64_t i = 0; i < group; ++i) {
    head_block(product, t, b, tail, level++, t.kv_head * group + i);
    for (int64_t done = i + 1; done % 2 == 0; done /= 2) merge();
  }
  while (level > 1) merge();
  for (int64_t r = 0; r < b.n; ++r) {
    finish_key(t, b.k0 + r, false, b.dk[0] + r * t.padded);
    finish_key(t, b.k0 + r, true, b.dv[0] + r * t.padded);
  }
}

template <class Product>
void document(Product& product, const Task& t) {
  const int64_t whole = t.seq.queries / kBlock * kBlock;
  for (int64_t head = t.kv_head * t.group(); head < (t.kv_head + 1) * t.group(); ++head)
    for (int64_t q = 0; q < whole; q += kBlock) pack_queries(t, head, q, kBlock, t.queries(head, q));
  KeyBlock b;
  Tail tail;
  for (b.k0 = 0; b.k0 < t.seq.keys; b.k0 += kKeys) {
    b.n = t.seq.keys - b.k0 < kKeys ? t.seq.keys - b.k0 : kKeys;
    b.rows = (b.n + kBlock - 1) / kBlock * kBlock;
    key_block(product, t, b, tail);
  }
}

}  // namespace

int64_t attend_blocks_workspace(int64_t tokens, int64_t heads, int64_t head_dim) {
  return layout_of(tokens, heads, head_dim).words * 4;
}

void attend_blocks(const AttnBwd& a, const Exec& ex) {
  for_documents<bf16_t>(a, ex, [&](const Doc& doc) {
    with_block_products(ex, [&](auto& product) { document(product, Task(doc)); });
  });
}

}  // namespace KN_NS
}  // namespace llmctl::kn
