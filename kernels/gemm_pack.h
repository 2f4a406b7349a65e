// SPDX-License-Identifier: Apache-2.0
// Copies of operands in the order in which tiles read them. The left operand of a block of rows is
// cut into tiles of nearly equal height h and lies as [tile][step][h]; bf16 may be widened on the
// way, each pair becoming two f32 steps, odd element first, as dot_pair has it. Moving and widening
// are exact. Internal to kernels/; compiled once per instruction set.
#pragma once

#include "kernels/gemm_tile.h"
#include "kernels/transpose.h"

namespace llmctl::kn {
namespace KN_NS {

// Rows of a task: their packed block (112 KiB) stays in L2 while the panels pass by.
constexpr int64_t kBlockRows = 112;

// `rows` in tiles of at most `most`, heights differing by one at most.
struct RowCut {
  int64_t tiles, base, extra;
  RowCut(int64_t rows, int64_t most) : tiles((rows + most - 1) / most), base(rows / tiles), extra(rows % tiles) {}
  int64_t begin(int64_t i) const { return i * base + (i < extra ? i : extra); }
  int64_t height(int64_t i) const { return base + (i < extra); }
};

// One step of h words at `to`; full vectors are stored, the next step overwrites what is too much.
template <bool widen>
KN_INLINE void put_step(float* to, int64_t h, I32 words) {
  if constexpr (widen) {
    store(to, odd_of(words));
    store(to + h, even_of(words));
  } else {
    istore(to, words);
  }
}

// Where the left operand lies: rows of T with lda elements between them, columns >= limit reading
// as +0; or panels of 16 rows whose steps are words side by side (lda words between panels; 16
// readable words behind the last).
template <class T>
struct RowMajor {
  const T* a;
  int64_t lda, limit;
};
struct InPanels {
  const Pair* a;
  int64_t lda;
};

template <class T>
KN_INLINE I32 words_at(const RowMajor<T>& x, int64_t row, int64_t column) {
  constexpr int64_t lanes = 64 / static_cast<int64_t>(sizeof(T));
  const T* from = x.a + row * x.lda + column;
  if (column + lanes <= x.limit) return iload(from);
  T padded[lanes] = {};
  for (int64_t i = 0; column + i < x.limit; ++i) padded[i] = from[i];
  return iload(padded);
}

// Source steps [begin, begin + steps) of rows [row, row + h). widen makes two f32
// words of each pair. `to` has room for 16 words more.
template <bool widen, class T>
void pack_tile(const RowMajor<T>& x, int64_t row, int64_t h, int64_t begin, int64_t steps, float* to) {
  constexpr int64_t per = 4 / static_cast<int64_t>(sizeof(T)), words = widen ? 2 : 1;
  for (int64_t s = 0; s < steps; s += 16) {
    I32 square[16];
    for (int64_t r = 0; r < 16; ++r) square[r] = r < h ? words_at(x, row + r, (begin + s) * per) : iset1(0);
    transpose16(square);
    const int64_t n = steps - s < 16 ? steps - s : 16;
    for (int64_t i = 0; i < n; ++i) put_step<widen>(to + (s + i) * h * words, h, square[i]);
  }
}

template <bool widen>
void pack_tile(const InPanels& x, int64_t row, int64_t h, int64_t begin, int64_t steps, float* to) {
  constexpr int64_t words = widen ? 2 : 1;
  const Pair *from = x.a + row / 16 * x.lda + begin * 16 + row % 16, *second = from + x.lda - row % 16;
  const int64_t here = 16 - row % 16;
  for (int64_t s = 0; s < steps; ++s) {
    float* step = to + s * h * words;
    const I32 first = iload(from + s * 16);
    if (h <= here) {
      put_step<widen>(step, h, first);
    } else if constexpr (words == 1) {
      istore(step, first);
      istore(step + here, iload(second + s * 16));
    } else {  // both odd halves before both even ones: a store may spill into what follows it
      const I32 rest = iload(second + s * 16);
      store(step, odd_of(first));
      store(step + here, odd_of(rest));
      store(step + h, even_of(first));
      store(step + h + here, even_of(rest));
    }
  }
}

template <bool widen, class Left>
void pack_left(const Left& x, const RowCut& cut, int64_t begin, int64_t steps, float* to) {
  constexpr int64_t words = widen ? 2 : 1;
  for (int64_t i = 0; i < cut.tiles; ++i)
    pack_tile<widen>(x, cut.begin(i), cut.height(i), begin, steps, to + cut.begin(i) * steps * words);
}

// Steps of a panel of pairs as f32.
KN_INLINE void widen_panel(const Pair* from, int64_t steps, float* to) {
  for (int64_t i = 0; i < steps; ++i) put_step<true>(to + i * 32, 16, iload(from + i * 16));
}

}  // namespace KN_NS
}  // namespace llmctl::kn
