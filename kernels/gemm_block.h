// SPDX-License-Identifier: Apache-2.0
// The product of a block of rows with a run of panels: its chains advanced over some steps, by the
// best means there is for the order wanted. A source step is one f32, or a pair of bf16. Internal to
// kernels/; compiled once per instruction set.
#pragma once

#include "kernels/gemm.h"
#include "kernels/gemm_tasks.h"
#include "kernels/gemm_pack.h"

namespace llmctl::kn {
namespace KN_NS {


struct Chains {
  float* acc;  // [rows][stride]
  int64_t stride;
  bool resume;  // continue what acc holds, else start from +0
};

template <class W>
struct Right {
  const W* panels;  // first panel of the window, step 0: 16 words a step
  int64_t stride;   // words between panels
  int64_t there;    // panels from the window's first to the last of all: may be fetched ahead
};

// Few rows of whole words are read where they lie, over all steps at once: the weights stream past.
template <class W, bool blocks, class Left>
void advance_few(const Left& left, const Right<W>& right, Span steps, int64_t rows, int64_t count, const Chains& to) {
  constexpr int64_t per = sizeof(W) / sizeof(*left.a);
  TileArgs<W> t;
  t.a = reinterpret_cast<const W*>(left.a) + steps.begin;
  t.lda = left.lda / per;
  t.w = right.panels + steps.begin * 16;
  t.panel_stride = right.stride;
  t.steps = steps.end - steps.begin;
  t.acc = to.acc, t.acc_stride = to.stride, t.resume = to.resume;
  tile_rows<W, false, blocks, kFew - 1>(t, rows, count);
}

// Many rows: blocks of steps; the left operand packed once for all panels, pairs widened if FMAs
// are to do the work (Wide is float).
template <class W, class Wide, bool blocks, class Left>
void advance_many(const Left& left, const Right<W>& right, Span steps, int64_t rows, int64_t count, const Chains& to) {
  constexpr bool widen = !std::is_same_v<W, Wide>;
  constexpr int64_t words = widen ? 2 : 1, most = blocks ? kMaxBlockRows : kMaxRows;
  alignas(64) float packed[kBlockRows * kBlockSteps + 64];
  alignas(64) float wide[widen ? kTilePanels * kBlockSteps * 16 : 16];
  const RowCut cut(rows, most);
  const int64_t tallest = cut.height(0), group = panels_of_tile(static_cast<int>(blocks ? 2 * tallest : tallest));
  // Three widened panels are half as deep: they are to stay in L1.
  const int64_t block = (widen && group > 2 ? kBlockSteps / 2 : kBlockSteps) / words;
  TileArgs<Wide> t;
  t.lda = 0;
  t.acc_stride = to.stride;
  t.resume = to.resume;
  for (int64_t s = steps.begin; s < steps.end; s += block, t.resume = true) {
    const int64_t n = steps.end - s < block ? steps.end - s : block;
    pack_left<widen>(left, cut, s, n, packed);
    t.steps = n * words;
    for (int64_t p = 0; p < count; p += group) {
      const int64_t here = count - p < group ? count - p : group;
      const W* panels = right.panels + p * right.stride + s * 16;
      if constexpr (widen) {
        for (int64_t v = 0; v < here; ++v) widen_panel(panels + v * right.stride, n, wide + v * kBlockSteps * 16);
        t.w = wide, t.panel_stride = kBlockSteps * 16;
      } else {
        t.w = panels, t.panel_stride = right.stride;
      }
      for (int64_t i = 0; i < cut.tiles; ++i) {
        t.a = reinterpret_cast<const Wide*>(packed) + cut.begin(i) * t.steps;
        t.acc = to.acc + cut.begin(i) * to.stride + p * 16;
        // The next panels: a tile's steps fetch one, or, where a source step is two, a pair of them.
        const int64_t soon = p + group + i * words;
        t.next = i * words < group && soon < right.there ? reinterpret_cast<const char*>(panels + (group + i * words) * right.stride)
                                                   : nullptr;
        t.apart = widen ? right.stride * 4 : n / 2 * 64;
        tile_rows<Wide, true, blocks, most>(t, cut.height(i), here);
      }
    }
  }
}

// Pairs on FMAs for so few tiles of rows that a widened copy of the panels would not pay.
constexpr int64_t kWideningTiles = 3;

template <class Left>
void advance_widening(const Left& left, const Right<Pair>& right, Span steps, int64_t rows, int64_t count,
                      const Chains& to) {
  constexpr int64_t block = kBlockSteps / 2;
  alignas(64) float packed[kWideningTiles * kMaxWideningRows * kBlockSteps + 64];
  const RowCut cut(rows, kMaxWideningRows);
  constexpr int64_t group = kWideningPanels;
  TileArgs<Pair> t;
  t.panel_stride = right.stride;
  t.acc_stride = to.stride;
  t.resume = to.resume;
  t.apart = right.stride * 4;
  for (int64_t s = steps.begin; s < steps.end; s += block, t.resume = true) {
    t.steps = steps.end - s < block ? steps.end - s : block;
    pack_left<true>(left, cut, s, t.steps, packed);
    for (int64_t p = 0; p < count; p += group) {
      t.w = right.panels + p * right.stride + s * 16;
      const bool more = p + 2 * group <= right.there;
      for (int64_t i = 0; i < cut.tiles; ++i) {
        t.next = i == 0 && more ? reinterpret_cast<const char*>(t.w + group * right.stride) : nullptr;
        t.acc = to.acc + cut.begin(i) * to.stride + p * 16;
        widening_rows<kMaxWideningRows>(packed + cut.begin(i) * t.steps * 2, t, cut.height(i),
                                        count - p < group ? count - p : group);
      }
    }
  }
}

// Advances the chains of rows x count panels (at most kBlockRows rows) over source steps; left and
// right start at the window. blocks: the order amx32, steps being whole blocks.
template <class W, class Left>
void advance_block(bool blocks, const Left& left, const Right<W>& right, Span steps, int64_t rows, int64_t count,
                   const Chains& to) {
  constexpr bool pairs = std::is_same_v<W, Pair>, row_major = !std::is_same_v<Left, InPanels>;
  if constexpr (row_major) {
    constexpr int64_t per = sizeof(W) / sizeof(*left.a);
    if (rows < kFew && left.lda % per == 0 && steps.end * per <= left.limit) {
      if constexpr (pairs)
        if (blocks) return advance_few<W, true>(left, right, steps, rows, count, to);
      return advance_few<W, false>(left, right, steps, rows, count, to);
    }
  }
  if constexpr (pairs) {
    if (blocks) return advance_many<W, float, true>(left, right, steps, rows, count, to);
    if constexpr (KN_ISA == 3)
      if (pair_instruction_pays()) return advance_many<W, Pair, false>(left, right, steps, rows, count, to);
    if (rows <= kWideningTiles * kMaxWideningRows) return advance_widening(left, right, steps, rows, count, to);
  }
  advance_many<W, float, false>(left, right, steps, rows, count, to);
}

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

// Outputs so large that nobody finds them in the caches afterwards go past them: half the traffic.
constexpr int64_t kStreamBytes = 32 << 20;

// The epilogue of rows x panels sums, `stride` floats between rows: whole lines of y where it can be.
template <bool past, class Y>
void write_lines(Y* y, const View& shape, const View& bias, const View& residual, const Window& at, const float* sums,
                 int64_t stride) {
  const int64_t n = shape.cols(), column = at.panel * 16;
  const int64_t pairs = (n - column < at.panels * 16 ? n - column : at.panels * 16) / 32;
  for (int64_t r = 0; r < at.rows; ++r) {
    const float* from = sums + r * stride;
    Y* to = y + (at.row + r) * n + column;
    for (int64_t p = 0; p < pairs; ++p) {
      F32 a = load(from + p * 32), b = load(from + p * 32 + 16);
      if (bias) a = add(a, load_any(bias, column + p * 32, 16)), b = add(b, load_any(bias, column + p * 32 + 16, 16));
      if (residual) {
        const int64_t i = (at.row + r) * n + column + p * 32;
        a = add(a, load_any(residual, i, 16)), b = add(b, load_any(residual, i + 16, 16));
      }
      if constexpr (past)
        stream(to + p * 32, bits(a)), stream(to + p * 32 + 16, bits(b));
      else if constexpr (sizeof(Y) == 4)
        store(to + p * 32, a), store(to + p * 32 + 16, b);
      else
        store_bf16(to + p * 32, a, b);
    }
    for (int64_t p = pairs * 2; p < at.panels; ++p)
      write_sum(shape, bias, residual, at.row + r, column + p * 16, load(from + p * 16));
  }
}
KN_INLINE void write_sums(const View& y, const View& bias, const View& residual, const Window& at, const float* sums,
                          int64_t stride) {
  if (y.dtype == DType::bf16) return write_lines<false>(y.as<bf16_t>(), y, bias, residual, at, sums, stride);
  const bool lines = reinterpret_cast<uintptr_t>(y.as<float>()) % 64 == 0 && y.cols() % 16 == 0;
  if (!lines || y.size() * 4 < kStreamBytes)
    return write_lines<false>(y.as<float>(), y, bias, residual, at, sums, stride);
  write_lines<true>(y.as<float>(), y, bias, residual, at, sums, stride);
  end_streams();
}

}  // namespace KN_NS
}  // namespace llmctl::kn
