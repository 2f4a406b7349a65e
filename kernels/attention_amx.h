// SPDX-License-Identifier: Apache-2.0
// The products of attention in the order amx32, by tiles or by the FMAs that tiles stand for. Left
// operands are rows of whole blocks of 32 bf16; right operands are 16 rows of 16 pairs for each block
// and panel of 16 columns, wherever they lie. Internal to kernels/; once per instruction set.
#pragma once

#include "kernels/attention.h"
#include "kernels/attention_tile.h"
#include "kernels/gemm_amx.h"

namespace llmctl::kn {
namespace KN_NS {

// The bodies of AttnFwd and AttnBwd for this order.
void attend_blocks(const AttnFwd& a, const Exec& ex);
void attend_blocks(const AttnBwd& a, const Exec& ex);
int64_t attend_blocks_workspace(int64_t tokens, int64_t heads, int64_t head_dim);  // bytes, of the backward

constexpr int64_t kBlockPairs = 16;  // steps of a block of 32

// Right operands: blocks below each other, or one in each page. row and panel in bytes.
struct PairRows {
  const char* at;
  int64_t row, panel;
  const char* tile(int64_t block) const { return at + block * kBlockPairs * row; }
  PairRows from(int64_t p) const { return {at + p * panel, row, panel}; }
};
struct PairPages {
  const char* const* pages;
  int64_t row, panel, offset = 0;
  const char* tile(int64_t block) const { return pages[block] + offset; }
  PairPages from(int64_t p) const { return {pages, row, panel, offset + p * panel}; }
};
inline PairRows pairs_at(const Pair* at, int64_t row, int64_t panel = kLanes) {  // in pairs
  return {reinterpret_cast<const char*>(at), row * 4, panel * 4};
}

// out (rows, panels * 16) = its chains, advanced over `blocks` blocks of the contraction.
template <class Right>
struct BlockProduct {
  const Pair* left;
  int64_t left_row;  // pairs between rows
  Right right;
  int64_t blocks, rows, panels;
  float* out;
  int64_t out_row;
  bool resume;  // go on from what out holds, else from +0
};

// On every instruction set: FMAs.
struct BlockFmas {
  template <class Right>
  void operator()(const BlockProduct<Right>& p) {
    TileArgs<Pair> t;
    t.lda = p.left_row, t.steps = kBlockPairs;
    t.panel_stride = p.right.panel / 4, t.w_step = p.right.row / 4;
    t.acc_stride = p.out_row;
    for (int64_t r = 0; r < p.rows; r += kMaxBlockRows)
      for (int64_t b = 0; b < p.blocks; ++b) {
        t.a = p.left + r * p.left_row + b * kBlockPairs;
        t.w = reinterpret_cast<const Pair*>(p.right.tile(b));
        t.acc = p.out + r * p.out_row;
        t.resume = p.resume || b > 0;
        tile_rows<Pair, false, true, kMaxBlockRows>(
            t, p.rows - r < kMaxBlockRows ? p.rows - r : kMaxBlockRows, p.panels);
      }
  }
};

#if KN_ISA == 3
struct BlockTiles {
  TileScope scope;
  template <class Right>
  void operator()(const BlockProduct<Right>& p) {
    for (int64_t r = 0; r < p.rows; r += kBlockSide) {
      const int64_t rows = p.rows - r < kBlockSide ? p.rows - r : kBlockSide;
      scope.rows(rows);
      const LeftTiles left{reinterpret_cast<const char*>(p.left + r * p.left_row), p.left_row * 4,
                           kTileSide * p.left_row * 4, kBlockPairs * 4};
      for (int64_t c = 0; c < p.panels; c += 2)
        advance_tiles(left, p.right.from(c), p.blocks, rows, p.panels - c, p.resume,
                      BlockSums{p.out + r * p.out_row + c * kTileSide, p.out_row});
    }
  }
};
#endif

// body(product) with the best means there is.
template <class Body>
KN_INLINE void with_block_products(const Exec& ex, Body&& body) {
#if KN_ISA == 3
  if (ex.isa == Isa::amx) {
    BlockTiles product;
    return body(product);
  }
#endif
  (void)ex;
  BlockFmas product;
  body(product);
}

}  // namespace KN_NS
}  // namespace llmctl::kn
