// SPDX-License-Identifier: Apache-2.0
// The register tile under every dense product: R rows times V panels of 16 columns, one chain per
// output in increasing step order. Accumulators enter and leave through memory, so a chain may be
// cut anywhere (blocks of steps that keep the panels in L1, pieces of a leaf, pieces of a unit)
// without changing a bit.
//
// What a tile consumes is words of 32 bits: one f32, or a pair of bf16. The left operand is read in
// place, row-major, or from a packed copy (gemm_pack.h) that lies in the order it is read. Internal
// to kernels/; compiled once per instruction set.
#pragma once

#include <type_traits>

#include "kernels/simd.h"

namespace llmctl::kn {

// Whether vdpbf16ps beats two FMAs on this CPU: measured at the first call (0.2 ms). If not, bf16
// products of many rows widen their operands and run on FMAs, with the same bits.
bool pair_instruction_pays();

namespace KN_NS {

using Pair = int32_t;  // two bf16, element 0 in the low half
KN_INLINE F32 odd_of(I32 pairs) { return from_bits(iand(pairs, iset1(static_cast<int32_t>(0xffff0000u)))); }
KN_INLINE F32 even_of(I32 pairs) { return from_bits(shl<16>(pairs)); }

// Tile shapes: R*V accumulators, V operands of the step and one broadcast fit the registers. The
// amx32 order (tile_blocks) has two accumulators per output. kWide[R] panels are run together when
// a product has few rows, to have enough independent chains and memory streams.
#if KN_ISA >= 2
constexpr int kFew = 8, kMaxRows = 14, kMaxBlockRows = 6;
constexpr int kWide[kFew] = {0, 12, 12, 6, 6, 4, 4, 3};
constexpr int panels_of_tile(int rows) { return rows > 9 ? 2 : 3; }
#elif KN_ISA == 1 || KN_ISA < 0
constexpr int kFew = 6, kMaxRows = 6, kMaxBlockRows = 3;
constexpr int kWide[kFew] = {0, 6, 3, 2, 1, 1};
constexpr int panels_of_tile(int) { return 1; }
#else
constexpr int kFew = 2, kMaxRows = 1, kMaxBlockRows = 1;
constexpr int kWide[kFew] = {0, 1};
constexpr int panels_of_tile(int) { return 1; }
#endif
constexpr int kMaxWideningRows = KN_ISA >= 2 ? 12 : KN_ISA == 0 ? 1 : 4, kWideningPanels = KN_ISA >= 2 ? 2 : 1;
constexpr int kTilePanels = 3;  // the most a packed tile takes
// Words of a block of steps: two panels (32 KiB) and a tile's rows (14 KiB) fit L1.
constexpr int64_t kBlockSteps = 256;

KN_INLINE F32 spread(const float* p) { return set1(*p); }
KN_INLINE I32 spread(const Pair* p) {
  int32_t pair;
  std::memcpy(&pair, p, 4);  // the memory may hold bf16
  return iset1(pair);
}
KN_INLINE F32 load_step(const float* p) { return load(p); }
KN_INLINE I32 load_step(const Pair* p) { return iload(p); }
KN_INLINE F32 advance(F32 acc, F32 a, F32 b) { return fma(a, b, acc); }
KN_INLINE F32 advance(F32 acc, I32 a, I32 b) { return dot_pair(acc, a, b); }

template <class W>
struct TileArgs {
  const W* a;            // row 0 of the tile, first step
  int64_t lda;           // words between rows; packed: unused, step s of row r is a[s * R + r]
  const W* w;            // first panel, first step: 16 words a step
  int64_t panel_stride;  // words between panels
  int64_t steps;
  float* acc;            // [rows][acc_stride]
  int64_t acc_stride;
  bool resume;           // load acc first, else start from +0
  // Lines wanted soon, or none: two steps fetch one from `next` on and one `apart` bytes further.
  const char* next = nullptr;
  int64_t apart = 0;
  int64_t w_step = 16;  // words between steps of w; only tile_blocks of pairs heeds it
};

template <class W, bool packed, int R>
KN_INLINE const W* left_word(const TileArgs<W>& t, const W* a, int row) {
  return packed ? a + row : a + row * t.lda;
}

template <class W, bool packed, int R, int V>
KN_INLINE void chain_step(F32 (&acc)[R][V], const TileArgs<W>& t, const W* a, const W* w) {
  decltype(load_step(w)) b[V];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) b[v] = load_step(w + v * t.panel_stride);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const auto x = spread(left_word<W, packed, R>(t, a, r));
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) acc[r][v] = advance(acc[r][v], x, b[v]);
  }
}

template <class W, bool packed, bool fetch, int R, int V>
KN_INLINE void chain_steps(F32 (&acc)[R][V], const TileArgs<W>& t) {
  constexpr int64_t step = packed ? R : 1;
  const W *a = t.a, *w = t.w;
  const char* next = t.next;
  for (int64_t s = 0; s + 2 <= t.steps; s += 2, a += 2 * step, w += 32) {
    if constexpr (fetch) {
      __builtin_prefetch(next, 0, 2);
      __builtin_prefetch(next + t.apart, 0, 2);
      next += 64;
    }
    chain_step<W, packed>(acc, t, a, w);
    chain_step<W, packed>(acc, t, a + step, w + 16);
  }
  if (t.steps % 2 != 0) chain_step<W, packed>(acc, t, a, w);
}

// The order `pair` in bf16, and f32.
template <class W, bool packed, int R, int V>
void tile_chain(const TileArgs<W>& t) {
  F32 acc[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v)
      acc[r][v] = t.resume ? load(t.acc + r * t.acc_stride + v * 16) : zero();
  if (packed && t.next)
    chain_steps<W, packed, true>(acc, t);
  else
    chain_steps<W, packed, false>(acc, t);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) store(t.acc + r * t.acc_stride + v * 16, acc[r][v]);
}

// Pairs widened in registers, for a panel that only a few tiles of rows will use: left words are f32,
// packed as two steps a pair, odd element first; right words are pairs.
template <int R, int V>
void tile_widening(const float* a, const TileArgs<Pair>& t) {
  F32 acc[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) acc[r][v] = t.resume ? load(t.acc + r * t.acc_stride + v * 16) : zero();
  const Pair* w = t.w;
  const char* next = t.next ? t.next : reinterpret_cast<const char*>(w);
  for (int64_t s = 0; s < t.steps; ++s, a += 2 * R, w += 16, next += 64) {
    F32 odd[V], even[V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const I32 pair = iload(w + v * t.panel_stride);
      odd[v] = odd_of(pair), even[v] = even_of(pair);
      __builtin_prefetch(next + v * t.apart, 0, 2);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const F32 x = set1(a[r]);
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) acc[r][v] = fma(x, odd[v], acc[r][v]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const F32 x = set1(a[R + r]);
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) acc[r][v] = fma(x, even[v], acc[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) store(t.acc + r * t.acc_stride + v * 16, acc[r][v]);
}

// count: kWideningPanels, or 1.
template <int R>
void widening_rows(const float* a, const TileArgs<Pair>& t, int64_t rows, int64_t count) {
  if (rows == R) return count == kWideningPanels ? tile_widening<R, kWideningPanels>(a, t) : tile_widening<R, 1>(a, t);
  if constexpr (R > 1) widening_rows<R - 1>(a, t, rows, count);
}

// The two chains of a block of 32 elements. Words are pairs, or the odd and the even element of a
// pair as two f32 words.
template <class W, bool packed, int R, int V>
KN_INLINE void block_steps(F32 (&even)[R][V], F32 (&odd)[R][V], const TileArgs<W>& t, const W* a, const W* w) {
  constexpr bool wide = std::is_same_v<W, float>;
  for (int s = 0; s < 16; ++s) {
    F32 b0[V], b1[V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const W* from = w + v * t.panel_stride;
      if constexpr (wide) {
        b1[v] = load(from), b0[v] = load(from + 16);
      } else {
        const I32 pair = iload(from);
        b1[v] = odd_of(pair), b0[v] = even_of(pair);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      F32 x0, x1;
      if constexpr (wide) {
        const W* at = left_word<W, packed, R>(t, a, r);
        x1 = set1(*at), x0 = set1(at[packed ? R : 1]);
      } else {
        const I32 pair = spread(left_word<W, packed, R>(t, a, r));
        x1 = odd_of(pair), x0 = even_of(pair);
      }
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        odd[r][v] = fma(x1, b1[v], odd[r][v]);
        even[r][v] = fma(x0, b0[v], even[r][v]);
      }
    }
    a += (packed ? R : 1) * (wide ? 2 : 1);
    w += wide ? 32 : t.w_step;
  }
}

// The order `amx32`: what tdpbf16ps does. steps is a whole number of blocks.
template <class W, bool packed, int R, int V>
void tile_blocks(const TileArgs<W>& t) {
  constexpr int64_t block = std::is_same_v<W, float> ? 32 : 16;
  for (int64_t s = 0; s < t.steps; s += block) {
    F32 even[R][V], odd[R][V];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) even[r][v] = odd[r][v] = zero();
    block_steps<W, packed>(even, odd, t, t.a + s * (packed ? R : 1), t.w + s * (block == 32 ? 16 : t.w_step));
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        float* acc = t.acc + r * t.acc_stride + v * 16;
        const F32 before = t.resume || s > 0 ? load(acc) : zero();
        store(acc, add(before, add(even[r][v], odd[r][v])));
      }
  }
}

// `count` panels by the widest tiles there are.
template <class W, bool packed, bool blocks, int R>
void tile_panels(TileArgs<W> t, int64_t count) {
  auto take = [&]<int V>(std::integral_constant<int, V>) {
    for (; count >= V; count -= V) {
      if constexpr (blocks)
        tile_blocks<W, packed, R, V>(t);
      else
        tile_chain<W, packed, R, V>(t);
      t.w += V * t.panel_stride;
      t.acc += V * 16;
    }
  };
  constexpr int widest = packed ? panels_of_tile(blocks ? 2 * R : R) : kWide[R];
  constexpr int wide = blocks && !packed && widest > 1 ? (widest + 1) / 2 : widest;
  if constexpr (wide > 3) take(std::integral_constant<int, wide>{});
  if constexpr (wide >= 3) take(std::integral_constant<int, 3>{});
  if constexpr (wide >= 2) take(std::integral_constant<int, 2>{});
  take(std::integral_constant<int, 1>{});
}

template <class W, bool packed, bool blocks, int R>
void tile_rows(const TileArgs<W>& t, int64_t rows, int64_t count) {
  if (rows == R) return tile_panels<W, packed, blocks, R>(t, count);
  if constexpr (R > 1) tile_rows<W, packed, blocks, R - 1>(t, rows, count);
}

}  // namespace KN_NS
}  // namespace llmctl::kn
