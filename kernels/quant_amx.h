// SPDX-License-Identifier: Apache-2.0
// QuantGemm on tiles: int8 activations times int8 weights by tdpbssd, 64 columns a step (32 where a
// group is an odd number of 32s). Integers are exact, and the f32 chain over groups is the one of
// quant_gemm.cpp, so the bits are too.
//
// A task is a window of rows and panels, whose sums wait in L2. For a chunk of groups, of each pair of
// panels in turn, the weights are copied to L1 as signed bytes (nibbles become bytes on the way), and
// the rows pass by in blocks of 32. The products of a group run on the tile unit while groups before it
// are scaled and added by vectors: 4 operations for each 16 sums of a group, which is the limit of
// groups of 32.
// Internal to kernels/; a part of the set avx512_bf16.
#pragma once

#include "kernels/gemm_amx.h"
#include "kernels/gemm_block.h"
#include "kernels/quant_gemm.h"

namespace llmctl::kn {
namespace KN_NS {

// The columns a group covers, and its place in a panel.
struct Groups {
  int64_t k, group, count, bytes;
};
KN_INLINE Groups groups_of(int64_t k, int64_t group, int bits) {
  return {k, group, (k + group - 1) / group, 64 + group * 2 * bits};
}

#if KN_ISA == 3

constexpr int64_t kQuantTileRows = 512, kQuantTilePanels = 16;
constexpr int64_t kChunkColumns = 256, kMostGroup = 1 << 14, kMostTail = 512;
constexpr int kBatch = 2;  // groups whose sums join while the next ones' products run

// Some groups of a pair of panels: scales [group][2][16], weights [group][panel][group * 16] signed.
struct QuantChunk {
  const float* scale;
  const int8_t* w;
};

// 64 bytes of weights as signed bytes: 1 step of 8 bits, 2 steps of 4.
KN_INLINE void sign_step(const char* from, int bits, int8_t* to) {
  const __m512i raw = _mm512_loadu_si512(from);
  if (bits == 8) return _mm512_storeu_si512(to, _mm512_xor_si512(raw, _mm512_set1_epi8(-128)));
  const __m512i low = _mm512_set1_epi8(15), offset = _mm512_set1_epi8(8);
  _mm512_storeu_si512(to, _mm512_sub_epi8(_mm512_and_si512(raw, low), offset));
  _mm512_storeu_si512(to + 64, _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi32(raw, 4), low), offset));
}

inline void copy_chunk(const Groups& groups, int bits, const char* w, int64_t panels, int64_t n, float* scale,
                       int8_t* to) {
  const int64_t panel = groups.count * groups.bytes;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t p = 0; p < panels; ++p) {
      const char* from = w + p * panel + i * groups.bytes;
      store(scale + (i * 2 + p) * 16, load(reinterpret_cast<const float*>(from)));
      int8_t* at = to + (i * 2 + p) * groups.group * 16;
      for (int64_t b = 64; b < groups.bytes; b += 64, at += 512 / bits) sign_step(from + b, bits, at);
    }
}

// Up to 32 rows against a chunk.
struct QuantBlock {
  const int8_t* a;  // first row, the chunk's first column
  int64_t lda;
  const int8_t* tail;  // instead, for the last group: its columns, zero filled, `group` bytes a row; or none
  const float* sx;     // first row, the chunk's first group; `groups` floats between rows
  int64_t groups, group, count;
  int64_t depth;  // bytes of a step
  int64_t rows;
  bool resume;          // sums go on from acc, else from +0
  const char* next[2];  // the panels' chunk that comes next: this block's part of it; or none
  int64_t next_lines;   // of each, at every group
};

KN_INLINE void fetch_next(const QuantBlock& b, int64_t g) {
  if (!b.next[0]) return;
  for (int64_t i = g * b.next_lines; i < (g + 1) * b.next_lines; ++i) {
    _mm_prefetch(b.next[0] + i * 64, _MM_HINT_T1);
    _mm_prefetch(b.next[1] + i * 64, _MM_HINT_T1);
  }
}

// Outputs: tile (i, j) of a block, rows 16 i and columns 16 j, in tile register 2 i + j.
template <int R, int C>
KN_INLINE void quant_products(const QuantBlock& b, const QuantChunk& c, int64_t g) {
  const bool last = b.tail != nullptr && g + 1 == b.count;
  const int8_t *a = last ? b.tail : b.a + g * b.group, *w = c.w + g * 2 * b.group * 16, *second = w + b.group * 16;
  const int64_t lda = last ? b.group : b.lda;
  const auto row = static_cast<size_t>(lda);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < b.group; s += b.depth) {
    _tile_loadd(6, w + s * 16, 64);
    _tile_loadd(4, a + s, row);
    _tile_dpbssd(0, 4, 6);
    if constexpr (C > 1) {
      _tile_loadd(7, second + s * 16, 64);
      _tile_dpbssd(1, 4, 7);
    }
    if constexpr (R > 1) {
      _tile_loadd(5, a + s + 16 * lda, row);
      _tile_dpbssd(2, 5, 6);
      if constexpr (C > 1) _tile_dpbssd(3, 5, 7);
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

// acc = acc + (float(dot) * sx) * sw, group after group.
struct QuantBatch {
  const int32_t* dots;  // [group][32][32]
  const float *sx, *scale;
  int64_t sx_row;
  float* acc;
  bool resume;
};
template <int C, int rows, int count>
KN_INLINE void add_rows(const QuantBatch& b, int64_t r) {
  F32 acc[rows][C];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) acc[i][c] = b.resume ? load(b.acc + (r + i) * kBlockSide + c * 16) : zero();
#pragma GCC unroll 2
  for (int g = 0; g < count; ++g) {
    const int32_t* dots = b.dots + g * kBlockFloats + r * kBlockSide;
    const F32 sw[2] = {load(b.scale + g * 32), load(b.scale + g * 32 + (C - 1) * 16)};
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const F32 sx = set1(b.sx[(r + i) * b.sx_row + g]);
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c)
        acc[i][c] = add(acc[i][c], mul(mul(to_float(iload(dots + i * kBlockSide + c * 16)), sx), sw[c]));
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) store(b.acc + (r + i) * kBlockSide + c * 16, acc[i][c]);
}
template <int C>
KN_INLINE void add_batch(const QuantBatch& b, int64_t count, int64_t begin, int64_t end) {
  int64_t r = begin;
  for (; r + 4 <= end; r += 4) count == kBatch ? add_rows<C, 4, kBatch>(b, r) : add_rows<C, 4, 1>(b, r);
  for (; r < end; ++r) count == kBatch ? add_rows<C, 1, kBatch>(b, r) : add_rows<C, 1, 1>(b, r);
}

template <int R, int C>
void quant_block(const QuantBlock& b, const QuantChunk& chunk, float* acc) {
  alignas(64) int32_t dots[2][kBatch * kBlockFloats];
  QuantBatch batch{dots[0], b.sx, chunk.scale, b.groups, acc, b.resume};
  int64_t waiting = 0, which = 0;
  const int64_t half = b.rows < kTileSide ? b.rows : kTileSide;
  for (int64_t g = 0; g < b.count; g += kBatch, which ^= 1) {
    const int64_t n = b.count - g < kBatch ? b.count - g : kBatch;
    for (int64_t i = 0; i < n; ++i) {
      quant_products<R, C>(b, chunk, g + i);
      fetch_next(b, g + i);
      if (waiting > 0) add_batch<C>(batch, waiting, i == 0 ? 0 : half, i + 1 == n ? b.rows : half);
      store_dots<R, C>(dots[which] + i * kBlockFloats);
    }
    batch = {dots[which], b.sx + g, chunk.scale + g * 32, b.groups, acc, b.resume || g > 0};
    waiting = n;
  }
  add_batch<C>(batch, waiting, 0, b.rows);
}

// acc (rows <= 32, 32) f32: the block's sums, the chunk's groups added; the scope is set to its rows.
inline void quant_tiles(const QuantBlock& b, const QuantChunk& chunk, int64_t panels, float* acc) {
  if (b.rows > kTileSide)
    panels > 1 ? quant_block<2, 2>(b, chunk, acc) : quant_block<2, 1>(b, chunk, acc);
  else
    panels > 1 ? quant_block<1, 2>(b, chunk, acc) : quant_block<1, 1>(b, chunk, acc);
}

// What fits the buffers of a task; other shapes go the other way, with the same bits.
inline bool fits_quant_tiles(const QuantGemm& g, const Exec& ex) {
  return ex.isa == Isa::amx && g.q.rows() >= kTileSide && g.group <= kMostGroup &&
         (g.q.cols() % g.group == 0 || g.group <= kMostTail);
}

// The last group of each row, filled up with zeros.
inline void copy_tails(const QuantGemm& g, const Groups& groups, const Window& at, int8_t* to) {
  const int64_t from = (groups.count - 1) * groups.group, n = groups.k - from;
  for (int64_t r = 0; r < at.rows; ++r, to += groups.group) {
    std::memcpy(to, g.q.as<int8_t>() + (at.row + r) * groups.k + from, static_cast<size_t>(n));
    std::memset(to + n, 0, static_cast<size_t>(groups.group - n));
  }
}

// Adds groups [c, c + n) to the sums of a column of blocks, whose first is `first`.
inline void quant_column(const QuantGemm& g, const Groups& groups, int64_t c, int64_t n, const Blocks& blocks,
                         int64_t first, const int8_t* tails, TileScope& scope, float* acc) {
  alignas(64) int8_t w[2 * kMostGroup * 16];  // touched as far as a chunk reaches
  alignas(64) float scale[2 * kChunkColumns / 32 * 16];
  const Window column = blocks.at(first);
  const int64_t down = blocks.down(), panel = groups.count * groups.bytes;
  const char* from = g.w.as<char>() + column.panel * panel + c * groups.bytes;
  copy_chunk(groups, g.bits, from, column.panels, n, scale, w);
  // The next pair's chunk, or the first pair's next one.
  const bool more = first + down < blocks.count();
  const char* next = more ? from + 2 * panel : c + n < groups.count ? from - first / down * 2 * panel + n * groups.bytes : nullptr;
  const int64_t lines = (groups.bytes / 64 + down - 1) / down;
  for (int64_t b = 0; b < down; ++b) {
    const Window at = blocks.at(first + b);
    const int64_t part = b * n * lines * 64;
    const bool last = tails != nullptr && c + n == groups.count;
    scope.rows(at.rows);
    quant_tiles({.a = g.q.as<int8_t>() + at.row * groups.k + c * groups.group, .lda = groups.k,
                 .tail = last ? tails + b * kBlockSide * groups.group : nullptr,
                 .sx = g.scale.as<float>() + at.row * groups.count + c, .groups = groups.count, .group = groups.group,
                 .count = n, .depth = groups.group % 64 == 0 ? 64 : 32, .rows = at.rows, .resume = c > 0,
                 .next = {next ? next + part : nullptr, next ? next + panel + part : nullptr}, .next_lines = lines},
                {scale, w}, column.panels, acc + b * kBlockFloats);
  }
}

inline void run_quant_tiles(const QuantGemm& g, const Exec& ex) {
  const Groups groups = groups_of(g.q.cols(), g.group, g.bits);
  const int64_t m = g.q.rows(), panels = (g.n + 15) / 16;
  const int64_t per = groups.group < kChunkColumns ? kChunkColumns / groups.group : 1;
  const Tasks tasks(m, panels, groups.k, kQuantTileRows, kQuantTilePanels, kBlockSide, ex.pool->threads());
  parallel_for(ex, tasks.count, [&](int64_t i) {
    alignas(64) float acc[kQuantTileRows * kQuantTilePanels * 16];
    alignas(64) int8_t tails[kQuantTileRows * kMostTail];
    TileScope scope(groups.group % 64 == 0 ? 64 : 32);
    const Blocks blocks{tasks.at(i, m, panels)};
    const bool whole = groups.k % groups.group == 0;
    if (!whole) copy_tails(g, groups, blocks.task, tails);
    for (int64_t c = 0; c < groups.count; c += per)
      for (int64_t b = 0; b < blocks.count(); b += blocks.down())
        quant_column(g, groups, c, groups.count - c < per ? groups.count - c : per, blocks, b, whole ? nullptr : tails,
                     scope, acc + b * kBlockFloats);
    for (int64_t b = 0; b < blocks.count(); ++b)
      write_sums(g.y, g.bias, g.residual, blocks.at(b), acc + b * kBlockFloats, kBlockSide);
  });
}

#endif

}  // namespace KN_NS
}  // namespace llmctl::kn
