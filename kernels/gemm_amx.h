// SPDX-License-Identifier: Apache-2.0
// The order amx32 by the instruction it is named after. tdpbf16ps adds to each element of a 16x16
// f32 tile the sum of two chains of 16 FMAs, over the even and over the odd elements of 32, each from
// +0, under DAZ and FTZ (Intel's manual; tests/kernels/gemm_test.cpp holds it to the FMAs of
// gemm_tile.h bit for bit).
//
// A step of the contraction is 32 elements: 16 pairs of a panel are a right tile as they lie in
// memory, and 16 rows of 32 columns of a row-major matrix are a left tile. Blocks of two by two output
// tiles share their operands: per step 4 KiB are read. From L1 that takes as long as the 4 products,
// from L2 twice as long, so a column of blocks runs through the contraction in chunks of kChunkSteps:
// the chunk of its pair of panels (24 KiB) stays in L1 while the left rows pass by from L2, and the
// blocks' sums are stored and loaded between chunks.
// Internal to kernels/; a part of the set avx512_bf16, used where the CPU and the kernel offer it.
#pragma once

#include "kernels/gemm_tasks.h"
#include "kernels/leaves.h"

#if KN_ISA == 3

namespace llmctl::kn {
namespace KN_NS {

constexpr int64_t kTileSide = 16, kBlockSide = 32;  // outputs of a tile, and of a block
constexpr int64_t kTileBytes = 1024;
constexpr int64_t kBlockFloats = kBlockSide * kBlockSide;

// Tile registers, configured for as long as this lives (a task). 0..3 are outputs, 4 and 5 left, 6
// and 7 right; the left ones and their outputs have as many rows as there are.
class TileScope {
 public:
  // depth: bytes of a row of the left operand that a step takes, 64 or 32.
  explicit TileScope(int depth = 64) : depth_(static_cast<uint8_t>(depth)) { rows(kBlockSide); }
  ~TileScope() { _tile_release(); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;

  void rows(int64_t n) {
    if (n == rows_) return;
    rows_ = n;
    const auto above = static_cast<uint8_t>(n < kTileSide ? n : kTileSide);
    const auto below = static_cast<uint8_t>(n > kTileSide ? n - kTileSide : kTileSide);
    alignas(64) Config c;
    for (int i : {0, 1, 4}) c.rows[i] = above;
    for (int i : {2, 3, 5}) c.rows[i] = below;
    c.row_bytes[4] = c.row_bytes[5] = depth_;
    c.rows[6] = c.rows[7] = static_cast<uint8_t>(depth_ / 4);
    asm volatile("" : : "m"(c));  // gcc 12 does not know that the next line reads it all
    _tile_loadconfig(&c);
  }

 private:
  struct Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  int64_t rows_ = 0;
  uint8_t depth_;
};

// Left operand of a block: up to 32 rows as two tiles.
struct LeftTiles {
  const char* at;  // first row, first step
  int64_t row;     // bytes between rows
  int64_t tile;    // bytes from the first tile to the second
  int64_t step;    // bytes between steps
};
// Right operand of a block: the tiles of a step in one or two panels. Other layouts (attention_amx.h)
// have the same members.
struct RightTiles {
  const char* at;  // first panel, first step
  int64_t panel;   // bytes between panels
  static constexpr int64_t row = 64;  // bytes between the rows of a tile
  const char* tile(int64_t step) const { return at + step * kTileBytes; }
};
// The same steps of the next pair of panels will be wanted soon: this call brings its part of them to
// L2, some lines at every step. (All at once would fill the line buffers that the tiles need.)
struct Ahead {
  int64_t part = 0, parts = 0;  // parts = 0: nothing
};
constexpr int64_t kChunkSteps = 12;

// lines: of each of two panels, `apart` bytes from each other, fetched at every step.
template <int lines>
KN_INLINE void fetch_lines(const char* at, int64_t apart) {
#pragma GCC unroll 16
  for (int64_t i = 0; i < lines; ++i) {
    _mm_prefetch(at + i * 64, _MM_HINT_T1);
    _mm_prefetch(at + apart + i * 64, _MM_HINT_T1);
  }
}

template <int R, int C, int lines, class Right>
KN_INLINE void products(const LeftTiles& left, const Right& right, int64_t steps, const char* fetch = nullptr) {
  const char* a = left.at;
  const auto row = static_cast<size_t>(left.row), right_row = static_cast<size_t>(right.row);
  for (int64_t s = 0; s < steps; ++s) {
    const char* w = right.tile(s);
    if constexpr (lines > 0) fetch_lines<lines>(fetch + s * lines * 64, right.panel);
    _tile_loadd(6, w, right_row);
    _tile_loadd(4, a, row);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (C > 1) {
      _tile_loadd(7, w + right.panel, right_row);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (R > 1) {
      _tile_loadd(5, a + left.tile, row);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (C > 1) _tile_dpbf16ps(3, 5, 7);
    }
    a += left.step;
  }
}

// Sums of a block: `row` floats between rows.
struct BlockSums {
  float* at;
  int64_t row = kBlockSide;
};

template <int R, int C, class Right>
void block_products(const LeftTiles& left, const Right& right, int64_t steps, bool resume, const BlockSums& sums,
                    const Ahead& ahead) {
  const size_t row = static_cast<size_t>(sums.row) * 4;
  float *acc = sums.at, *below = acc + kTileSide * sums.row;
  if (resume) {
    _tile_loadd(0, acc, row);
    if constexpr (C > 1) _tile_loadd(1, acc + kTileSide, row);
    if constexpr (R > 1) _tile_loadd(2, below, row);
    if constexpr (R > 1 && C > 1) _tile_loadd(3, below + kTileSide, row);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  if constexpr (R > 1 && C > 1 && std::is_same_v<Right, RightTiles>) {
    const int64_t lines = ahead.parts > 0 ? (kTileSide + ahead.parts - 1) / ahead.parts : 0;
    const char* fetch = right.at + 2 * right.panel + ahead.part * steps * lines * 64;
    if (lines == 0)
      products<R, C, 0>(left, right, steps);
    else if (lines <= 2)
      products<R, C, 2>(left, right, steps, fetch);
    else if (lines <= 4)
      products<R, C, 4>(left, right, steps, fetch);
    else
      products<R, C, 8>(left, right, steps, fetch);
  } else {
    products<R, C, 0>(left, right, steps);
  }
  _tile_stored(0, acc, row);
  if constexpr (C > 1) _tile_stored(1, acc + kTileSide, row);
  if constexpr (R > 1) _tile_stored(2, below, row);
  if constexpr (R > 1 && C > 1) _tile_stored(3, below + kTileSide, row);
}

// sums (rows <= 32, 32) = their chains, advanced over `steps` steps by 1 or 2 panels; the scope is set
// to `rows`.
template <class Right>
inline void advance_tiles(const LeftTiles& left, const Right& right, int64_t steps, int64_t rows, int64_t panels,
                          bool resume, const BlockSums& sums, const Ahead& ahead = {}) {
  if (rows > kTileSide)
    panels > 1 ? block_products<2, 2>(left, right, steps, resume, sums, ahead)
               : block_products<2, 1>(left, right, steps, resume, sums, ahead);
  else
    panels > 1 ? block_products<1, 2>(left, right, steps, resume, sums, ahead)
               : block_products<1, 1>(left, right, steps, resume, sums, ahead);
}

inline void advance_tiles(const LeftTiles& left, const RightTiles& right, int64_t steps, int64_t rows,
                          int64_t panels, bool resume, float* sums, const Ahead& ahead = {}) {
  advance_tiles(left, right, steps, rows, panels, resume, BlockSums{sums}, ahead);
}

// Blocks of 32 rows x 2 panels of a task, down first: those of a pair of panels are a column.
struct Blocks {
  Window task;
  int64_t down() const { return (task.rows + kBlockSide - 1) / kBlockSide; }
  int64_t count() const { return down() * ((task.panels + 1) / 2); }
  Window at(int64_t i) const {
    const int64_t r = i % down() * kBlockSide, p = i / down() * 2;
    return {task.row + r, task.rows - r < kBlockSide ? task.rows - r : kBlockSide, task.panel + p,
            task.panels - p < 2 ? task.panels - p : 2};
  }
  // Each block of a pair of panels fetches its share of the next pair.
  Ahead ahead(int64_t i) const {
    const bool more = down() > 1 && i / down() * 2 + 4 <= task.panels;
    return {i % down(), more ? down() : 0};
  }
};

}  // namespace KN_NS
}  // namespace llmctl::kn
#endif
