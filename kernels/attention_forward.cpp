// SPDX-License-Identifier: Apache-2.0
// AttnFwd on the CPU, in f32 and in the order pair. A task is one KV head and up to 8 rows
// (attention_rows.h).
#include "kernels/attention.h"
#include "kernels/attention_amx.h"
#include "kernels/attention_rows.h"

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

template <class T>
struct Rows : RowBlock<T, kRows> {
  const Word<T>* v[kSegmentKeys / kPageTokens];  // pages of the segment at hand
};

// Scores of the segment's first n keys for all rows; slots beyond n may hold anything.
template <class T>
void score_segment(const Where& w, Rows<T>& b, int64_t key, int64_t n) {
  for (int64_t k = 0; k < n; k += kPageTokens) {
    Product<Word<T>> p;
    p.a = b.q;
    p.b = reinterpret_cast<const Word<T>*>(w.page<T>(w.a.kv.k, key, k / kPageTokens));
    p.b_step = kPageTokens;
    p.steps = words_of<T>(w.a.qkv.dim[2]);
    p.out = b.s + k;
    p.out_row = kSegmentKeys;
    p.resume = false;
    product_strip<Word<T>, Rows<T>::kQ, 1>(p, b.height, n - k > 16 ? 2 : 1);
    b.v[k / kPageTokens] = reinterpret_cast<const Word<T>*>(w.page<T>(w.a.kv.v, key, k / kPageTokens));
  }
}

KN_INLINE void store_weights(float* p, F32 x) {
  store(p, x);
}
KN_INLINE void store_weights(int32_t* p, F32 x) {
  store_bf16(reinterpret_cast<bf16_t*>(p), x);
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
void weigh_segment(const Where& w, Rows<T>& b, int64_t key, int64_t n) {
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
KN_INLINE void value_tile(Rows<T>& b, int64_t r0, int64_t d0, int64_t d, int64_t key, int64_t n) {
  constexpr int64_t row = Rows<T>::kP, page_steps = kPageTokens / kPerWord<T>;
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
    for (int v = 0; v < V; ++v) merge_values(o + v * 16, acc[r][v], keep, take, key == 0);
  }
}

template <class T, int R>
void value_rows(Rows<T>& b, int64_t r0, int64_t d, int64_t key, int64_t n) {
  constexpr int wide = R >= 4 ? kTileVectors : kThinVectors;
  int64_t d0 = 0;
  for (; d0 + 16 * (wide - 1) < d; d0 += 16 * wide) value_tile<T, R, wide>(b, r0, d0, d, key, n);
  for (; d0 < d; d0 += 16) value_tile<T, R, 1>(b, r0, d0, d, key, n);
}

template <class T>
void add_values(Rows<T>& b, int64_t d, int64_t key, int64_t n) {
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
void attend(const Where& w, int64_t rows) {
  Rows<T> b;
  b.rows = rows;
  for (b.height = 1; b.height < rows;) b.height *= 2;
  load_rows<T>(w, b, words_of<T>(w.a.qkv.dim[2]));
  const int64_t keys = b.limit[rows - 1];
  for (int64_t key = 0; key < keys; key += kSegmentKeys) {
    const int64_t n = keys - key < kSegmentKeys ? keys - key : kSegmentKeys;
    score_segment(w, b, key, n);
    weigh_segment(w, b, key, n);
    add_values(b, w.a.qkv.dim[2], key, n);
  }
  store_rows<T>(w, b);
}

}  // namespace

void launch(KN_CPU, const AttnFwd& a, const Exec& ex) {
  if (a.qkv.dtype == DType::bf16 && a.order == Bf16Order::amx32) return attend_blocks(a, ex);
  for_row_blocks(a, ex, kRows, [&](const Where& w, int64_t rows) {
    a.qkv.dtype == DType::f32 ? attend<float>(w, rows) : attend<bf16_t>(w, rows);
  });
}

}  // namespace llmctl::kn
