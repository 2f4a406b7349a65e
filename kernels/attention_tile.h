// SPDX-License-Identifier: Apache-2.0
// The one inner loop of attention: R rows times V vectors of outputs, every output a chain over
// steps, the right operand a vector per step and the left operand spread. A step is one f32 or one
// pair of bf16, and is called a word. Scores, P V, dP, dQ, dK and dV are all this loop; the rows and
// vectors taken together never change a bit. Internal to kernels/; once per instruction set.
#pragma once

#include "kernels/gemm_tile.h"
#include "kernels/transpose.h"

namespace llmctl::kn {
namespace KN_NS {

constexpr int64_t kMaxHeadDim = 256;

struct Sequence {  // one row of AttnFwd::sequences
  int32_t first_row, queries, keys, first_page;
};

// T is the storage type. Word<T>: what one step consumes.
template <class T>
struct WordOf {
  using type = float;
};
template <>
struct WordOf<bf16_t> {
  using type = int32_t;
};
template <class T>
using Word = typename WordOf<T>::type;
template <class T>
constexpr int64_t kPerWord = 4 / static_cast<int64_t>(sizeof(T));
template <class T>
constexpr int64_t words_of(int64_t n) {
  return (n + kPerWord<T> - 1) / kPerWord<T>;
}

KN_INLINE Mask below(int64_t n) {  // the first n lanes
  return ilt(iota(), iset1(static_cast<int32_t>(n)));
}

KN_INLINE F32 spread(float x) {
  return set1(x);
}
KN_INLINE I32 spread(int32_t x) {
  return iset1(x);
}
KN_INLINE F32 load_words(const float* p) {
  return load(p);
}
KN_INLINE I32 load_words(const int32_t* p) {
  return iload(p);
}
// n <= 16 words, the rest +0: moves bits, whatever they mean.
KN_INLINE F32 load_words(const float* p, int64_t n) {
  return load(p, n);
}
KN_INLINE I32 load_words(const int32_t* p, int64_t n) {
#if KN_ISA >= 2
  return {_mm512_maskz_loadu_epi32(first(n), p)};
#else
  int32_t t[16] = {};
  std::memcpy(t, p, static_cast<size_t>(n < 16 ? n : 16) * 4);
  return iload(t);
#endif
}

// Rows and vectors of a full tile: enough independent chains to hide the FMA's latency, few enough
// to stay in registers.
#if KN_ISA >= 2
constexpr int kStripRows = 8, kTileVectors = 2, kThinVectors = 4;
#elif KN_ISA == 1
constexpr int kStripRows = 4, kTileVectors = 1, kThinVectors = 2;
#else
constexpr int kStripRows = 1, kTileVectors = 1, kThinVectors = 1;
#endif

// Left operand word (row r, step s) at a[r * row + s * step]; right operand vector (step s, v) at
// b[s * b_step + 16 v]. Row and step are compile-time so that every spread is one address.
template <class W, int64_t row, int64_t step, int R, int V>
KN_INLINE void advance_tile(F32 (&acc)[R][V], const W* a, const W* b, int64_t b_step, int64_t steps,
                            int64_t last = 16) {
  for (int64_t s = 0; s < steps; ++s, a += step, b += b_step) {
    decltype(load_words(b)) right[V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v)
      right[v] = v + 1 < V || last == 16 ? load_words(b + v * 16) : load_words(b + v * 16, last);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const auto left = spread(a[r * row]);
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) acc[r][v] = advance(acc[r][v], left, right[v]);
    }
  }
}

template <class W>
struct Product {  // out[r][c] (+)= sum over steps of a(r, s) b(s, c)
  const W* a;
  const W* b;
  int64_t b_step;
  int64_t steps;
  float* out;
  int64_t out_row;
  bool resume;  // chains go on from what out holds, else from +0
};

template <class W, int64_t row, int64_t step, int R, int V>
KN_INLINE void product_tile(const Product<W>& p, int64_t c) {
  F32 acc[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) acc[r][v] = p.resume ? load(p.out + r * p.out_row + c + v * 16) : zero();
  advance_tile<W, row, step, R, V>(acc, p.a, p.b + c, p.b_step, p.steps);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) store(p.out + r * p.out_row + c + v * 16, acc[r][v]);
}

template <class W, int64_t row, int64_t step, int R>
void product_rows(const Product<W>& p, int64_t vectors) {
  constexpr int wide = R >= 4 ? kTileVectors : kThinVectors;
  int64_t v = 0;
  for (; v + wide <= vectors; v += wide) product_tile<W, row, step, R, wide>(p, v * 16);
  if constexpr (wide > 2)
    for (; v + 2 <= vectors; v += 2) product_tile<W, row, step, R, 2>(p, v * 16);
  for (; v < vectors; ++v) product_tile<W, row, step, R, 1>(p, v * 16);
}

// rows <= 8 rows of `vectors` whole vectors: b and out are padded to them.
template <class W, int64_t row, int64_t step>
void product_strip(Product<W> p, int64_t rows, int64_t vectors) {
  auto take = [&]<int R>(std::integral_constant<int, R>) {
    for (; rows >= R; rows -= R, p.a += R * row, p.out += R * p.out_row)
      product_rows<W, row, step, R>(p, vectors);
  };
  if constexpr (kStripRows >= 8) take(std::integral_constant<int, 8>{});
  if constexpr (kStripRows >= 4) take(std::integral_constant<int, 4>{});
  if constexpr (kStripRows >= 2) take(std::integral_constant<int, 2>{});
  take(std::integral_constant<int, 1>{});
}

// n values at x (may be null if n is 0) as words, zero-padded to `words`.
KN_INLINE void copy_words(float* to, const float* x, int64_t n, int64_t words) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(to + i, load(x + i));
  for (; i < n; ++i) to[i] = x[i];
  for (; i < words; ++i) to[i] = 0.0f;
}
KN_INLINE void copy_words(int32_t* to, const bf16_t* x, int64_t n, int64_t words) {
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) istore(to + i / 2, iload(x + i));
  if (i == n && n == words * 2) return;
  if (i < n) std::memcpy(to + i / 2, x + i, static_cast<size_t>(n - i) * 2);
  std::memset(reinterpret_cast<char*>(to) + n * 2, 0, static_cast<size_t>(words * 4 - n * 2));
}

// Word w of a row of d values.
KN_INLINE float word_at(const float* x, int64_t w, int64_t) {
  return x[w];
}
KN_INLINE int32_t word_at(const bf16_t* x, int64_t w, int64_t d) {
  const uint32_t high = 2 * w + 1 < d ? x[2 * w + 1] : 0u;
  return static_cast<int32_t>(high << 16 | x[2 * w]);
}

// 16 x 16 words: to[c * to_step + r] = from[r * from_step + c], steps in bytes.
KN_INLINE void transpose16(char* to, int64_t to_step, const char* from, int64_t from_step) {
  I32 square[16];
#pragma GCC unroll 16
  for (int64_t i = 0; i < 16; ++i) square[i] = iload(from + i * from_step);
  transpose16(square);
#pragma GCC unroll 16
  for (int64_t i = 0; i < 16; ++i) istore(to + i * to_step, square[i]);
}

// to[w * to_step + r] = word w of row r, for `rows` rows of d values, x_row values apart.
template <class T>
void transpose_rows(Word<T>* to, int64_t to_step, const T* x, int64_t x_row, int64_t rows, int64_t d) {
  const int64_t whole = d / kPerWord<T> / 16 * 16, block = rows / 16 * 16;
  for (int64_t r = 0; r < block; r += 16)
    for (int64_t w = 0; w < whole; w += 16)
      transpose16(reinterpret_cast<char*>(to + w * to_step + r), to_step * 4,
                  reinterpret_cast<const char*>(x + r * x_row + w * kPerWord<T>),
                  x_row * static_cast<int64_t>(sizeof(T)));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t w = r < block ? whole : 0; w < words_of<T>(d); ++w)
      to[w * to_step + r] = word_at(x + r * x_row, w, d);
}

}  // namespace KN_NS
}  // namespace llmctl::kn
