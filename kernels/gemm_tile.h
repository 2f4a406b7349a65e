// SPDX-License-Identifier: Apache-2.0
// The register tile under every dense product: R rows times V panels of 16 columns, one chain per
// output in increasing step order (a step is one contraction index in f32, a pair in bf16).
// Accumulators enter and leave through memory, so a chain may be cut anywhere (blocks of steps
// that keep the panels in L1, pieces of a leaf, pieces of a unit) without changing a bit.
//
// The left operand is read in place, row-major, or from panels like the right one (GemmDw): then
// rows of a tile must lie in one panel. Internal to kernels/; compiled once per instruction set.
#pragma once

#include <type_traits>

#include "kernels/simd.h"

namespace llmctl::kn {

// Whether vdpbf16ps beats two FMAs on this CPU: measured at the first call (0.2 ms). If not, bf16
// products of avx512_bf16 with kTileRows rows and more run the bodies of avx512.
bool pair_instruction_pays();

namespace KN_NS {

// Tile shapes: R*V accumulators, V (or R) operands of the step and one broadcast fit the registers.
// kWide[R] panels are run together when a product has only R < kTileRows rows, to have enough
// independent chains and memory streams.
#if KN_ISA >= 2
constexpr int kTileRows = 8, kTilePanels = 3, kPanelTileRows = 8;
constexpr int kWide[9] = {0, 12, 12, 6, 6, 4, 4, 3, 3};
#elif KN_ISA == 1
constexpr int kTileRows = 6, kTilePanels = 1, kPanelTileRows = 4;
constexpr int kWide[9] = {0, 6, 3, 2, 1, 1, 1, 0, 0};
#else
constexpr int kTileRows = 1, kTilePanels = 1, kPanelTileRows = 1;
constexpr int kWide[9] = {0, 1, 0, 0, 0, 0, 0, 0, 0};
#endif
// f32 steps that keep three panels (24 KiB) in L1 while the rows pass by.
constexpr int64_t kBlockSteps = 128;
// Rows of a task: their left operand stays in L2 while the panels pass by.
constexpr int64_t kBlockRows = 128;
constexpr int64_t kTaskPanels = 12;

// A step's 32 bits of the left operand on every lane.
KN_INLINE F32 spread(const float* p) { return set1(*p); }
KN_INLINE I32 spread(const bf16_t* p) {
  int32_t pair;
  std::memcpy(&pair, p, 4);
  return iset1(pair);
}
KN_INLINE F32 load_step(const float* p) { return load(p); }
KN_INLINE I32 load_step(const bf16_t* p) { return iload(p); }
KN_INLINE F32 advance(F32 acc, F32 a, F32 b) { return fma(a, b, acc); }
KN_INLINE F32 advance(F32 acc, I32 a, I32 b) { return dot_pair(acc, a, b); }
template <class T>
constexpr int64_t kPerStep = 4 / static_cast<int64_t>(sizeof(T));

// Where row r's step s of the left operand lies. In place: a + r*lda + s*kPerStep. In panels (lda
// unused): a + (s*16 + r)*kPerStep.
template <class T, bool panels>
KN_INLINE const T* left_at(const T* a, int64_t lda, int64_t row, int64_t step) {
  return panels ? a + (step * 16 + row) * kPerStep<T> : a + row * lda + step * kPerStep<T>;
}

template <class T>
struct TileArgs {
  const T* a;             // row 0 of the tile, step 0 of the contraction
  int64_t lda;            // elements between rows
  const T* w;             // first panel, step 0
  int64_t panel_stride;   // elements between panels
  int64_t begin, end;     // full steps of this piece
  bool half;              // bf16: after `end` comes one step whose second element is padding
  float* acc;             // [rows][acc_stride]
  int64_t acc_stride;
  bool resume;            // load acc first, else start from +0
};

template <class T, bool panels, int R, int V>
KN_INLINE void tile_step(F32 (&acc)[R][V], const TileArgs<T>& t, const T* a, const T* w) {
  using Lane = decltype(load_step(w));
  Lane b[V];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) b[v] = load_step(w + v * t.panel_stride);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const Lane x = spread(left_at<T, panels>(a, t.lda, r, 0));
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) acc[r][v] = advance(acc[r][v], x, b[v]);
  }
}

template <class T, bool panels, int R, int V>
void tile(const TileArgs<T>& t) {
  F32 acc[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v)
      acc[r][v] = t.resume ? load(t.acc + r * t.acc_stride + v * 16) : zero();
  const T* a = left_at<T, panels>(t.a, t.lda, 0, t.begin);
  const T* w = t.w + t.begin * 16 * kPerStep<T>;
  for (int64_t s = t.begin; s < t.end; ++s) {
    tile_step<T, panels, R, V>(acc, t, a, w);
    a += panels ? 16 * kPerStep<T> : kPerStep<T>;
    w += 16 * kPerStep<T>;
  }
  if constexpr (!panels && sizeof(T) == 2) {
    if (t.half) {
      bf16_t last[R][2];
      for (int r = 0; r < R; ++r) last[r][0] = *left_at<T, panels>(a, t.lda, r, 0), last[r][1] = 0;
      TileArgs<T> copy = t;
      copy.lda = 2;
      tile_step<T, panels, R, V>(acc, copy, &last[0][0], w);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) store(t.acc + r * t.acc_stride + v * 16, acc[r][v]);
}

// `count` panels by the widest tiles there are.
template <class T, bool panels, int R>
void tile_panels(TileArgs<T> t, int64_t count) {
  auto take = [&]<int V>(std::integral_constant<int, V>) {
    for (; count >= V; count -= V) {
      tile<T, panels, R, V>(t);
      t.w += V * t.panel_stride;
      t.acc += V * 16;
    }
  };
  if constexpr (!panels && kWide[R] > kTilePanels) take(std::integral_constant<int, kWide[R]>{});
  if constexpr (kTilePanels >= 3) take(std::integral_constant<int, 3>{});
  if constexpr (kTilePanels >= 2) take(std::integral_constant<int, 2>{});
  take(std::integral_constant<int, 1>{});
}

template <class T, bool panels, int R>
void tile_rows(const TileArgs<T>& t, int64_t rows, int64_t count) {
  if (rows == R) return tile_panels<T, panels, R>(t, count);
  if constexpr (R > 1) tile_rows<T, panels, R - 1>(t, rows, count);
}

// All row tiles of one group of panels over the steps of t.
template <class T, bool panels>
void advance_tiles(TileArgs<T> t, int64_t rows, int64_t count) {
  constexpr int64_t tile_height = panels ? kPanelTileRows : kTileRows;
  const T* a = t.a;
  float* acc = t.acc;
  for (int64_t r = 0; r < rows; r += tile_height) {
    t.a = panels ? a + r / 16 * t.lda + r % 16 * kPerStep<T> : a + r * t.lda;
    t.acc = acc + r * t.acc_stride;
    tile_rows<T, panels, static_cast<int>(tile_height)>(t, rows - r < tile_height ? rows - r : tile_height, count);
  }
}

// Pairs as two f32 steps, odd element first: what dot_pair does, with the widening done once per
// block and not once per tile. Rows in place: (o0,e0,o1,e1,..) side by side.
KN_INLINE void widen_pairs(const bf16_t* from, int64_t pairs, bool half, float* to) {
  int64_t i = 0;
#if KN_ISA >= 2
  const __m512i keep = _mm512_set1_epi64(static_cast<int64_t>(0xffffffffffff0000u));
  for (; i + 8 <= pairs; i += 8) {
    const __m512i p = _mm512_cvtepu32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 2 * i)));
    _mm512_storeu_si512(to + 2 * i, _mm512_and_si512(_mm512_or_si512(p, _mm512_slli_epi64(p, 48)), keep));
  }
#elif KN_ISA == 1
  const __m256i keep = _mm256_set1_epi64x(static_cast<int64_t>(0xffffffffffff0000u));
  for (; i + 4 <= pairs; i += 4) {
    const __m256i p = _mm256_cvtepu32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 2 * i),
                        _mm256_and_si256(_mm256_or_si256(p, _mm256_slli_epi64(p, 48)), keep));
  }
#endif
  for (; i < pairs; ++i) {
    to[2 * i] = widen(from[2 * i + 1]);
    to[2 * i + 1] = widen(from[2 * i]);
  }
  if (half) to[2 * pairs] = 0, to[2 * pairs + 1] = widen(from[2 * pairs]);
}
KN_INLINE void widen_panel(const bf16_t* from, int64_t pairs, float* to) {
  for (int64_t i = 0; i < pairs; ++i) {
    const I32 pair = iload(from + i * 32);
    store(to + i * 32, from_bits(iand(pair, iset1(static_cast<int32_t>(0xffff0000u)))));
    store(to + i * 32 + 16, from_bits(shl<16>(pair)));
  }
}

// bf16 through the f32 tiles, a block of pairs at a time: for sets without the pair instruction.
template <bool panels>
void advance_widened(const TileArgs<bf16_t>& t, int64_t rows, int64_t count) {
  constexpr int64_t block = kBlockSteps / 2;
  alignas(64) float left[kBlockRows * kBlockSteps], right[kTilePanels * kBlockSteps * 16];
  TileArgs<float> f{left, panels ? kBlockSteps * 16 : kBlockSteps, right, kBlockSteps * 16, 0, 0, false,
                    t.acc, t.acc_stride, t.resume};
  const int64_t end = t.end + t.half;
  for (int64_t s = t.begin; s < end; s += block, f.resume = true) {
    const int64_t pairs = end - s < block ? end - s : block;
    const bool half = t.half && s + pairs == end;
    if constexpr (panels)
      for (int64_t p = 0; p < (rows + 15) / 16; ++p) widen_panel(t.a + p * t.lda + s * 32, pairs, left + p * f.lda);
    else
      for (int64_t r = 0; r < rows; ++r) widen_pairs(t.a + r * t.lda + s * 2, pairs - half, half, left + r * f.lda);
    f.end = 2 * pairs;
    for (int64_t p = 0; p < count; p += kTilePanels) {
      const int64_t group = count - p < kTilePanels ? count - p : kTilePanels;
      for (int64_t v = 0; v < group; ++v)
        widen_panel(t.w + (p + v) * t.panel_stride + s * 32, pairs, right + v * f.panel_stride);
      f.acc = t.acc + p * 16;
      advance_tiles<float, panels>(f, rows, group);
    }
  }
}

// Advances the chains of rows x count panels (at most kBlockRows x kTaskPanels) over steps
// [t.begin, t.end) and the half step. t is as for the first tile; in panels, row 0 is the first row
// of a panel and lda is the distance between panels of the left operand.
template <class T, bool panels>
void advance_block(TileArgs<T> t, int64_t rows, int64_t count) {
  const bool few = rows < kTileRows;
  if constexpr (sizeof(T) == 2 && (KN_ISA == 1 || KN_ISA == 2))
    if (!few) return advance_widened<panels>(t, rows, count);
  const int64_t begin = t.begin, end = t.end, block = few ? end - begin : kBlockSteps;
  const int64_t group = few ? count : kTilePanels;
  const bool half = t.half, resume = t.resume;
  for (int64_t p = 0; p < count; p += group) {
    t.begin = begin;
    t.resume = resume;
    do {
      t.end = t.begin + block < end ? t.begin + block : end;
      t.half = half && t.end == end;
      advance_tiles<T, panels>(t, rows, count - p < group ? count - p : group);
      t.resume = true;
      t.begin = t.end;
    } while (t.begin < end);
    t.w += group * t.panel_stride;
    t.acc += group * 16;
  }
}

struct Window {  // of the product's rows and panels
  int64_t row, rows, panel, panels;
};

// The epilogue of 16 columns: round(sum + bias + residual) to y (M,n), y may be residual.
KN_INLINE F32 load_any(const View& v, int64_t i, int64_t n) {
  return v.dtype == DType::f32 ? load_row(v.as<float>() + i, n) : load_row(v.as<bf16_t>() + i, n);
}
KN_INLINE void write_sum(const View& y, const View& bias, const View& residual, int64_t row,
                         int64_t column, F32 sum) {
  const int64_t n = y.cols(), left = n - column < 16 ? n - column : 16, i = row * n + column;
  if (bias) sum = add(sum, load_any(bias, column, left));
  if (residual) sum = add(sum, load_any(residual, i, left));
  if (y.dtype == DType::f32)
    store_row(y.as<float>() + i, sum, left);
  else
    store_row(y.as<bf16_t>() + i, sum, left);
}

}  // namespace KN_NS
}  // namespace llmctl::kn
