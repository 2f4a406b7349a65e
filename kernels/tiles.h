// SPDX-License-Identifier: Apache-2.0
// Walking a matrix in the tiles of optimizer.h on the CPU. A task is 64 rows of up to 16 tiles side
// by side, row by row, so that memory is read in long runs while each tile's sum stays its own.
#pragma once

#include "kernels/digest.h"
#include "kernels/fixed.h"
#include "kernels/optimizer.h"
#include "kernels/rows.h"
#include "kernels/simd.h"

namespace llmctl::kn {
namespace KN_NS {

constexpr int64_t kTilesPerTask = 16;

// A row of a tile: where it starts, its elements, its tile.
struct Segment {
  int64_t at, n;
  int64_t tile;  // number of the tile, row-major over the grid
  int64_t tile_row, tile_col;
  int row;   // in the tile
  int slot;  // of the tile in the task
};

struct Nothing {};  // the state of a pass that has none

// Tasks over the tile grid of a (rows, cols) matrix: begin(first tile, tiles), then body(segment) for
// each row of each tile, rows outermost, then end(first tile, tiles). The three share a state S.
template <class S, class Begin, class Body, class End>
KN_INLINE void for_tiles(const Exec& ex, int64_t rows, int64_t cols, Begin&& begin, Body&& body, End&& end) {
  const int64_t across = (cols + kTileCols - 1) / kTileCols, down = (rows + kTileRows - 1) / kTileRows;
  const int64_t chunks = (across + kTilesPerTask - 1) / kTilesPerTask;
  parallel_for(ex, down * chunks, [&](int64_t task) {
    const int64_t tile_row = task / chunks, first = task % chunks * kTilesPerTask;
    const int64_t count = across - first < kTilesPerTask ? across - first : kTilesPerTask;
    const int64_t top = tile_row * kTileRows, bottom = top + kTileRows < rows ? top + kTileRows : rows;
    S state;
    begin(state, tile_row * across + first, count);
    for (int64_t r = top; r < bottom; ++r)
      for (int64_t s = 0; s < count; ++s) {
        const int64_t col = (first + s) * kTileCols;
        const int64_t n = cols - col < kTileCols ? cols - col : kTileCols;
        body(state, Segment{r * cols + col, n, tile_row * across + first + s, tile_row, first + s,
                            static_cast<int>(r - top), static_cast<int>(s)});
      }
    end(state, tile_row * across + first, count);
  });
}

KN_INLINE RowPlace place_of(uint64_t key, const Segment& s) {
  return {key, s.tile_row, s.tile_col, s.row, static_cast<int>(s.n)};
}

// Adds the n <= 16 elements at column i of a row to its sums.
KN_INLINE void hash_lanes(RowHasher& h, const float* p, int64_t i, int64_t n) {
  hash_words(h, bits(load(p, n)), static_cast<int>(i));
}
KN_INLINE void hash_lanes(RowHasher& h, const uint16_t* p, int64_t i, int64_t n) {
  hash_words(h, n >= kLanes ? load_u16(p) : shr<16>(bits(load_bf16(p, n))), static_cast<int>(i));
}
KN_INLINE void hash_lanes(RowHasher& h, const int64_t* p, int64_t i, int64_t n) {
  const float* words = reinterpret_cast<const float*>(p);
  hash_words(h, n >= 8 ? iload(p) : bits(load(words, 2 * n)), static_cast<int>(2 * i));
  if (n > 8)
    hash_words(h, n >= kLanes ? iload(p + 8) : bits(load(words + 16, 2 * n - 16)),
               static_cast<int>(2 * i + 16));
}

// A gradient is hashed as fixed point, however it is stored.
KN_INLINE void hash_grad(RowHasher& h, const int64_t* p, int64_t i, int64_t n) { hash_lanes(h, p, i, n); }
KN_INLINE void hash_grad(RowHasher& h, const float* p, int64_t i, int64_t n) {
  int64_t fixed[kLanes] = {};
  math::add_whole(fixed, mul(load(p, n), set1(kFixedScale)));
  hash_words(h, iload(fixed), static_cast<int>(2 * i));
  if (n > 8) hash_words(h, iload(fixed + 8), static_cast<int>(2 * i + 16));
}

// *sum += h mod 2^128, a digest in memory being two i64, low first.
KN_INLINE void add_hash(int64_t* sum, Hash128 h) {
  const Hash128 old{static_cast<uint64_t>(sum[0]), static_cast<uint64_t>(sum[1])};
  const Hash128 now = old + h;
  sum[0] = static_cast<int64_t>(now.low);
  sum[1] = static_cast<int64_t>(now.high);
}

}  // namespace KN_NS
}  // namespace llmctl::kn
