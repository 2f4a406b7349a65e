// SPDX-License-Identifier: Apache-2.0
// AttnFwd on the CPU. A task is one KV head and up to 8 rows, a row being one query of one head of
// the group, so that a page of K and V serves every head of the group and several queries. Rows of a
// task share loads only: limits, maxima and merges are each row's own.
#include "kernels/attention.h"
#include "kernels/attention_tile.h"
#include "kernels/math.h"
#include "kernels/simd.h"

namespace llmctl::kn {

#if KN_ONCE
namespace {
void check_pages(const char* op, const View& v, DType dtype, int64_t kv_heads, int64_t head_dim) {
  check(v.dtype == dtype && v.rank == 3 && v.dim[1] == kv_heads &&
            v.dim[2] == kv_page_elements(dtype, head_dim),
        Code::bug, "[", op, "] pages are ", name_of(v.dtype), " (", v.dim[0], ",", v.dim[1], ",", v.dim[2],
        "): want ", name_of(dtype), " (pages,", kv_heads, ",", kv_page_elements(dtype, head_dim), ")");
}
}  // namespace

void AttnFwd::check() const {
  using llmctl::check;
  const int64_t t = qkv.dim[0], d = qkv.dim[2];
  check(qkv.dtype == DType::f32 || qkv.dtype == DType::bf16, Code::bug, "[attn_fwd] qkv is ",
        name_of(qkv.dtype), ": want f32 or bf16");
  check(heads > 0 && kv_heads > 0 && heads % kv_heads == 0, Code::bug, "[attn_fwd] ", heads,
        " heads do not divide into ", kv_heads, " groups");
  check(qkv.rank == 3 && qkv.dim[1] == heads + 2 * kv_heads, Code::bug, "[attn_fwd] qkv has ", qkv.dim[1],
        " heads: want ", heads + 2 * kv_heads);
  check(d >= 1 && d <= kMaxHeadDim, Code::unsupported, "[attn_fwd] head dimension ", d, " is not in 1..256");
  check_pages("attn_fwd", kv.k, qkv.dtype, kv_heads, d);
  check_pages("attn_fwd", kv.v, qkv.dtype, kv_heads, d);
  check(sequences.dtype == DType::i32 && sequences.rank == 2 && sequences.dim[1] == 4, Code::bug,
        "[attn_fwd] sequences are ", name_of(sequences.dtype), " of ", sequences.dim[1],
        " columns: want i32 (S,4)");
  check(page_table.dtype == DType::i32, Code::bug, "[attn_fwd] page_table is ", name_of(page_table.dtype),
        ": want i32");
  check(out.dtype == qkv.dtype && out.size() == t * heads * d, Code::bug, "[attn_fwd] out has ", out.size(),
        " elements of ", name_of(out.dtype), ": want ", t * heads * d, " of ", name_of(qkv.dtype));
  check(!lse || (lse.dtype == DType::f32 && lse.size() == t * heads), Code::bug, "[attn_fwd] lse has ",
        lse.size(), " elements: want f32, ", t * heads);
}
#endif

namespace {

constexpr int kRows = 8;

struct Sequence {  // one row of AttnFwd::sequences
  int32_t first_row, queries, keys, first_page;
};

// One task's rows. Rows beyond `rows` are padding: no keys, nothing written.
template <class T>
struct RowBlock {
  static constexpr int64_t kQ = kMaxHeadDim / kPerWord<T>;   // words between rows of q
  static constexpr int64_t kP = kSegmentKeys / kPerWord<T>;  // words between rows of p
  alignas(64) Word<T> q[kRows * kQ];
  alignas(64) Word<T> p[kRows * kP];          // a segment's weights, rounded to T
  alignas(64) float s[kRows * kSegmentKeys];  // a segment's scores
  alignas(64) float o[kRows * kMaxHeadDim];   // merged so far
  float m[kRows], l[kRows];
  float keep[kRows], take[kRows];                // factors of the merge at hand
  int64_t limit[kRows];                          // keys the row sees
  int64_t rows, height;                          // height: rows rounded up to a power of two
  const Word<T>* v[kSegmentKeys / kPageTokens];  // pages of the segment at hand
};

struct Where {
  const AttnFwd& a;
  Sequence seq;
  int64_t kv_head, row;  // row: first row of the block within the sequence
  int64_t group() const { return a.heads / a.kv_heads; }
  int64_t token(int64_t r) const { return seq.first_row + (row + r) / group(); }
  int64_t head(int64_t r) const { return kv_head * group() + (row + r) % group(); }
};

template <class T>
void load_rows(const Where& w, RowBlock<T>& b) {
  const int64_t d = w.a.qkv.dim[2], total = w.a.qkv.dim[1], words = words_of<T>(d);
  for (int64_t r = 0; r < b.height; ++r) {
    const int64_t from = r < b.rows ? r : 0;
    const T* x = w.a.qkv.as<T>() + (w.token(from) * total + w.head(from)) * d;
    copy_words(b.q + r * b.kQ, x, d, words);
    b.limit[r] = r < b.rows ? w.seq.keys - w.seq.queries + (w.row + r) / w.group() + 1 : 0;
  }
}

// Scores of the segment's first n keys for all rows; slots beyond n may hold anything.
template <class T>
void score_segment(const Where& w, RowBlock<T>& b, int64_t key, int64_t n) {
  const int64_t d = w.a.qkv.dim[2];
  const int64_t page_elements = kv_page_elements(w.a.qkv.dtype, d);
  const int32_t* table = w.a.page_table.as<int32_t>() + w.seq.first_page + key / kPageTokens;
  for (int64_t k = 0; k < n; k += kPageTokens) {
    const int64_t at = (table[k / kPageTokens] * w.a.kv_heads + w.kv_head) * page_elements;
    Product<Word<T>> p;
    p.a = b.q;
    p.b = reinterpret_cast<const Word<T>*>(w.a.kv.k.as<T>() + at);
    p.b_step = kPageTokens;
    p.steps = words_of<T>(d);
    p.out = b.s + k;
    p.out_row = kSegmentKeys;
    p.resume = false;
    product_strip<Word<T>, RowBlock<T>::kQ, 1>(p, b.height, n - k > 16 ? 2 : 1);
    b.v[k / kPageTokens] = reinterpret_cast<const Word<T>*>(w.a.kv.v.as<T>() + at);
  }
}

KN_INLINE Mask below(int64_t n) {
  return ilt(iota(), iset1(static_cast<int32_t>(n)));
}
KN_INLINE void store_weights(float* p, F32 x) {
  store(p, x);
}
KN_INLINE void store_weights(int32_t* p, F32 x) {
  store_u16(p, round_bf16(x));
}

// Weights of one row for its n >= 1 keys of the segment, +0 up to `filled` keys; its maximum and sum.
template <class T>
void weigh_row(float* s, Word<T>* p, float scale, int64_t n, int64_t filled, float& m, float& l) {
  const F32 by = set1(scale), lowest = set1(-3.4028234e38f);
  F32 top = lowest;
  for (int64_t i = 0; i < n; i += 16) {
    F32 x = mul(load(s + i), by);
    if (n - i < 16) x = select(below(n - i), x, lowest);
    store(s + i, x);
    top = max(top, x);
  }
  m = max16(top);
  F32 sum = zero();
  for (int64_t i = 0; i < n; i += 16) {
    F32 x = math::exp(sub(load(s + i), set1(m)));
    if (n - i < 16) x = select(below(n - i), x, zero());
    sum = add(sum, x);
    store_weights(p + i / kPerWord<T>, x);
  }
  for (int64_t i = (n + 15) / 16 * 16; i < filled; i += 16) store_weights(p + i / kPerWord<T>, zero());
  l = sum16(sum);
}

// Weights of all rows, and the factors by which each row's (l, O) takes the segment in.
template <class T>
void weigh_segment(const Where& w, RowBlock<T>& b, int64_t key, int64_t n) {
  const int64_t filled = (n + 15) / 16 * 16;
  for (int64_t r = 0; r < b.height; ++r) {
    Word<T>* p = b.p + r * b.kP;
    const int64_t own = b.limit[r] - key < n ? b.limit[r] - key : n;
    b.keep[r] = 1.0f, b.take[r] = 0.0f;
    if (own <= 0) {
      for (int64_t i = 0; i < filled; i += 16) store_weights(p + i / kPerWord<T>, zero());
      continue;
    }
    float m, l;
    weigh_row<T>(b.s + r * kSegmentKeys, p, w.a.scale, own, filled, m, l);
    if (key == 0) {
      b.m[r] = m, b.l[r] = l;
      continue;
    }
    const float top = m > b.m[r] ? m : b.m[r];
    b.keep[r] = math::exp(b.m[r] - top), b.take[r] = math::exp(m - top);
    b.l[r] = __builtin_fmaf(b.l[r], b.keep[r], l * b.take[r]);
    b.m[r] = top;
  }
}

KN_INLINE F32 drop_second(F32 x) {
  return x;
}
KN_INLINE I32 drop_second(I32 x) {
  return iand(x, iset1(0xffff));
}

// R rows x V vectors of O: the segment's chain over n keys, then the merge.
template <class T, int R, int V>
KN_INLINE void value_tile(RowBlock<T>& b, int64_t r0, int64_t d0, int64_t d, int64_t key, int64_t n) {
  constexpr int64_t row = RowBlock<T>::kP, page_steps = kPageTokens / kPerWord<T>;
  const int64_t last = d - d0 - 16 * (V - 1) < 16 ? d - d0 - 16 * (V - 1) : 16;
  const Word<T>* p = b.p + r0 * row;
  F32 acc[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) acc[r][v] = zero();
  for (int64_t steps = n / kPerWord<T>, page = 0; steps > 0; steps -= page_steps, ++page)
    advance_tile<Word<T>, row, 1, R, V>(acc, p + page * page_steps, b.v[page] + d0, d,
                                        steps < page_steps ? steps : page_steps, last);
  if (n % kPerWord<T> != 0) {  // the last pair's second key may not be written yet
    const Word<T>* x = b.v[(n - 1) / kPageTokens] + (n - 1) % kPageTokens / kPerWord<T> * d + d0;
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const auto right = drop_second(load_words(x + v * 16, v + 1 < V ? 16 : last));
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) acc[r][v] = advance(acc[r][v], spread(p[r * row + n / kPerWord<T>]), right);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    if (b.limit[r0 + r] <= key) continue;
    float* o = b.o + (r0 + r) * kMaxHeadDim + d0;
    const F32 keep = set1(b.keep[r0 + r]), take = set1(b.take[r0 + r]);
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      // A product that underflowed may have left -0, which a later masked key would turn into +0.
      const F32 x = add(acc[r][v], zero());
      store(o + v * 16, key == 0 ? x : fma(load(o + v * 16), keep, mul(x, take)));
    }
  }
}

template <class T, int R>
void value_rows(RowBlock<T>& b, int64_t r0, int64_t d, int64_t key, int64_t n) {
  constexpr int wide = R >= 4 ? kTileVectors : kThinVectors;
  int64_t d0 = 0;
  for (; d0 + 16 * (wide - 1) < d; d0 += 16 * wide) value_tile<T, R, wide>(b, r0, d0, d, key, n);
  for (; d0 < d; d0 += 16) value_tile<T, R, 1>(b, r0, d0, d, key, n);
}

template <class T>
void add_values(RowBlock<T>& b, int64_t d, int64_t key, int64_t n) {
  int64_t r = 0;
  auto take = [&]<int R>(std::integral_constant<int, R>) {
    for (; r + R <= b.height; r += R) value_rows<T, R>(b, r, d, key, n);
  };
  if constexpr (kStripRows >= 8) take(std::integral_constant<int, 8>{});
  if constexpr (kStripRows >= 4) take(std::integral_constant<int, 4>{});
  if constexpr (kStripRows >= 2) take(std::integral_constant<int, 2>{});
  take(std::integral_constant<int, 1>{});
}

template <class T>
void store_rows(const Where& w, const RowBlock<T>& b) {
  const int64_t d = w.a.qkv.dim[2];
  for (int64_t r = 0; r < b.rows; ++r) {
    const int64_t at = w.token(r) * w.a.heads + w.head(r);
    const F32 l = set1(b.l[r]);
    for (int64_t i = 0; i < d; i += 16)
      store_row(w.a.out.as<T>() + at * d + i, div(load(b.o + r * kMaxHeadDim + i), l), d - i);
    if (w.a.lse) w.a.lse.as<float>()[at] = b.m[r] + math::log(b.l[r]);
  }
}

template <class T>
void attend(const Where& w, int64_t rows) {
  RowBlock<T> b;
  b.rows = rows;
  for (b.height = 1; b.height < rows;) b.height *= 2;
  load_rows(w, b);
  const int64_t keys = b.limit[rows - 1];
  for (int64_t key = 0; key < keys; key += kSegmentKeys) {
    const int64_t n = keys - key < kSegmentKeys ? keys - key : kSegmentKeys;
    score_segment(w, b, key, n);
    weigh_segment(w, b, key, n);
    add_values(b, w.a.qkv.dim[2], key, n);
  }
  store_rows(w, b);
}

// Blocks of kRows rows are numbered through the sequences in order.
template <class T>
void attend_block(const AttnFwd& a, int64_t kv_head, int64_t block) {
  const int64_t group = a.heads / a.kv_heads;
  const auto* seq = a.sequences.as<Sequence>();
  for (;; ++seq) {
    const int64_t rows = seq->queries * group, blocks = (rows + kRows - 1) / kRows;
    if (block >= blocks) {
      block -= blocks;
      continue;
    }
    const int64_t row = block * kRows;
    return attend<T>(Where{a, *seq, kv_head, row}, rows - row < kRows ? rows - row : kRows);
  }
}

}  // namespace

void launch(KN_CPU, const AttnFwd& a, const Exec& ex) {
  const int64_t group = a.heads / a.kv_heads;
  int64_t blocks = 0;
  for (int64_t s = 0; s < a.sequences.dim[0]; ++s)
    blocks += (a.sequences.as<Sequence>()[s].queries * group + kRows - 1) / kRows;
  parallel_for(ex, a.kv_heads * blocks, [&](int64_t i) {
    const int64_t block = blocks - 1 - i % blocks;  // late rows see most keys: start with them
    a.qkv.dtype == DType::f32 ? attend_block<float>(a, i / blocks, block)
                              : attend_block<bf16_t>(a, i / blocks, block);
  });
}

}  // namespace llmctl::kn
