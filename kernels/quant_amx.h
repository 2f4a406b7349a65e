// SPDX-License-Identifier: Apache-2.0
// Blocks of QuantGemm on tiles: int8 activations times unsigned weights by tdpbsud, 64 columns a step
// (32 where a group is an odd number of 32s). Integers are exact, and the f32 chain over groups is the
// one of quant_gemm.cpp, so the bits are too. A panel's group is a right tile as it lies in memory.
// The products of a group run on the tile unit while the group before is scaled and added.
// Internal to kernels/; a part of the set avx512_bf16.
#pragma once

#include "kernels/gemm_amx.h"

#if KN_ISA == 3

namespace llmctl::kn {
namespace KN_NS {

// Up to 32 rows times 2 panels. Panels hold, for each group, 16 scales and then the weights.
struct QuantBlock {
  const int8_t* a;  // first row
  int64_t lda;
  const int8_t* tail;  // the last group's columns, zero filled, `group` bytes a row; or none
  const char* w;       // first panel
  int64_t panel;       // bytes between panels
  int64_t group, groups, group_bytes;
  int64_t depth;               // bytes of a step
  const int32_t* start;        // [group][kBlockSide]: -offset * sum of a row's activations
  const float* sx;             // of the first row, `groups` floats between rows
  int64_t rows, panels;
};

// Outputs: tile (i, j) of a block, rows 16 i and columns 16 j, from tile register 2 i + j.
template <int R, int C>
KN_INLINE void quant_products(const QuantBlock& b, int64_t g) {
  const bool last = b.tail != nullptr && g + 1 == b.groups;
  const int8_t* a = last ? b.tail : b.a + g * b.group;
  const int64_t lda = last ? b.group : b.lda;
  const char* w = b.w + g * b.group_bytes + 64;
  const auto row = static_cast<size_t>(lda);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t c = 0; c < b.group; c += b.depth, w += b.depth * 16) {
    _tile_loadd(6, w, 64);
    _tile_loadd(4, a + c, row);
    _tile_dpbsud(0, 4, 6);
    if constexpr (C > 1) {
      _tile_loadd(7, w + b.panel, 64);
      _tile_dpbsud(1, 4, 7);
    }
    if constexpr (R > 1) {
      _tile_loadd(5, a + c + 16 * lda, row);
      _tile_dpbsud(2, 5, 6);
      if constexpr (C > 1) _tile_dpbsud(3, 5, 7);
    }
  }
}

template <int R, int C>
KN_INLINE void store_dots(int32_t* dots) {
  constexpr size_t row = kBlockSide * 4;
  _tile_stored(0, dots, row);
  if constexpr (C > 1) _tile_stored(1, dots + 16, row);
  if constexpr (R > 1) _tile_stored(2, dots + 16 * kBlockSide, row);
  if constexpr (R > 1 && C > 1) _tile_stored(3, dots + 16 * kBlockSide + 16, row);
}

// acc += (float(dot) * sx) * sw for group g.
template <int C>
KN_INLINE void add_group(const QuantBlock& b, int64_t g, const int32_t* dots, float* acc) {
  const int32_t* start = b.start + g * kBlockSide;
  F32 sw[C];
  for (int c = 0; c < C; ++c) sw[c] = load(reinterpret_cast<const float*>(b.w + g * b.group_bytes + c * b.panel));
  for (int64_t r = 0; r < b.rows; ++r) {
    const I32 from = iset1(start[r]);
    const F32 sx = set1(b.sx[r * b.groups + g]);
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) {
      float* to = acc + r * kBlockSide + c * 16;
      const F32 dot = to_float(iadd(iload(dots + r * kBlockSide + c * 16), from));
      store(to, add(load(to), mul(mul(dot, sx), sw[c])));
    }
  }
}

template <int R, int C>
void quant_block(const QuantBlock& b, float* acc) {
  alignas(64) int32_t dots[kBlockFloats];
  for (int64_t i = 0; i < b.rows * kBlockSide; i += 16) store(acc + i, zero());
  quant_products<R, C>(b, 0);
  for (int64_t g = 1; g < b.groups; ++g) {
    store_dots<R, C>(dots);
    quant_products<R, C>(b, g);
    add_group<C>(b, g - 1, dots, acc);
  }
  store_dots<R, C>(dots);
  add_group<C>(b, b.groups - 1, dots, acc);
}

// acc (rows <= 32, 32) f32 = the block's sums; the scope is set to its rows.
inline void quant_tiles(const QuantBlock& b, float* acc) {
  if (b.rows > kTileSide)
    b.panels > 1 ? quant_block<2, 2>(b, acc) : quant_block<2, 1>(b, acc);
  else
    b.panels > 1 ? quant_block<1, 2>(b, acc) : quant_block<1, 1>(b, acc);
}

}  // namespace KN_NS
}  // namespace llmctl::kn
#endif
