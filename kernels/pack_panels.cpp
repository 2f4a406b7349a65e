// SPDX-License-Identifier: Apache-2.0
// PackPanels on the CPU: squares of 32 x 32 are read once and leave in both directions, each as whole
// lines. A task is 32 rows of src: two panels forward, 32 steps of every panel backward.
#include "kernels/gemm.h"
#include "kernels/transpose.h"

namespace llmctl::kn {

#if KN_ONCE
void PackPanels::check() const {
  using llmctl::check;
  auto is_float = [](DType t) { return t == DType::f32 || t == DType::bf16; };
  auto one = [&](const char* name, const View& dst, int64_t contraction, int64_t columns) {
    if (!dst) return;
    check(is_float(src.dtype) && is_float(dst.dtype) && (src.dtype == dst.dtype || src.dtype == DType::f32), Code::bug,
          "[pack_panels] ", name_of(src.dtype), " to ", name_of(dst.dtype), " is not offered");
    check(dst.size() == panel_elements(dst.dtype, contraction, columns), Code::bug, "[pack_panels] ", name, " has ",
          dst.size(), " elements, expected ", panel_elements(dst.dtype, contraction, columns));
  };
  one("panels", panels, src.cols(), src.rows());
  one("panels_t", panels_t, src.rows(), src.cols());
  check(!panels || !panels_t || panels.dtype == panels_t.dtype, Code::bug, "[pack_panels] panels of ",
        name_of(panels.dtype), " and of ", name_of(panels_t.dtype));
}
#endif

namespace {

KN_INLINE int64_t most(int64_t n, int64_t limit) { return n < limit ? n : limit; }

// Sixteen values as the destination's bits, one per lane (bf16 in the low halves).
KN_INLINE I32 lanes(const float* p, int64_t n, float) { return bits(load(p, n)); }
KN_INLINE I32 lanes(const float* p, int64_t n, bf16_t) { return round_bf16(load(p, n)); }
KN_INLINE I32 lanes(const bf16_t* p, int64_t n, bf16_t) { return shr<16>(bits(load_bf16(p, n))); }

// Where the words of a task go. Strides are in words between panels.
struct Targets {
  int32_t *forward, *backward;  // or null
  int64_t forward_stride, backward_stride;
  int64_t forward_steps, backward_steps;  // steps of a panel
  bool stream;                            // too much for the caches: past them
};

// Rows [row, row + 16) and columns [column, column + 16) of src, what is missing +0.
template <class S, class D>
KN_INLINE void read_square(const PackPanels& op, int64_t row, int64_t column, I32 (&square)[16]) {
  const int64_t rows = op.src.rows(), cols = op.src.cols(), n = most(cols - column, 16);
  for (int64_t r = 0; r < 16; ++r)
    square[r] = row + r < rows && n > 0 ? lanes(op.src.as<S>() + (row + r) * cols + column, n, D{}) : iset1(0);
}

KN_INLINE void write_steps(const Targets& t, int32_t* to, const I32* steps, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (t.stream)
      stream(to + i * 16, steps[i]);
    else
      istore(to + i * 16, steps[i]);
}

// Steps of f32 are single elements: a square is 16 steps of a panel backward, and turned, forward.
template <class S>
void pack_square(const PackPanels& op, const Targets& t, int64_t row, int64_t column, float) {
  for (int64_t r = row; r < row + 32; r += 16)
    for (int64_t c = column; c < column + 32; c += 16) {
      if (r >= op.src.rows() || c >= op.src.cols()) continue;
      I32 square[16];
      read_square<S, float>(op, r, c, square);
      if (t.backward)
        write_steps(t, t.backward + c / 16 * t.backward_stride + r * 16, square, most(t.backward_steps - r, 16));
      if (!t.forward) continue;
      transpose16(square);
      write_steps(t, t.forward + r / 16 * t.forward_stride + c * 16, square, most(t.forward_steps - c, 16));
    }
}

#if KN_ISA == 3
// 32 columns of a row as bf16 in their order; columns from n on are +0.
KN_INLINE I32 row_of(const float* p, int64_t n) {
  const F32 low = load(p, most(n, 16)), high = n > 16 ? load(p + 16, most(n - 16, 16)) : zero();
  return {(__m512i)_mm512_cvtne2ps_pbh(high.v, low.v)};
}
KN_INLINE I32 row_of(const bf16_t* p, int64_t n) {
  return {_mm512_maskz_loadu_epi16(n < 32 ? (1u << n) - 1 : ~0u, p)};
}
// Words of two rows side by side: of columns 0..15, or 16..31.
template <int half>
KN_INLINE I32 side_by_side(I32 first, I32 second) {
  const __m256i a = _mm512_extracti64x4_epi64(first.v, half), b = _mm512_extracti64x4_epi64(second.v, half);
  return {_mm512_or_si512(_mm512_cvtepu16_epi32(a), _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16))};
}

// Steps of bf16 are pairs: two rows side by side backward, two columns of a turned square forward.
template <class S>
void pack_square(const PackPanels& op, const Targets& t, int64_t row, int64_t column, bf16_t) {
  const int64_t rows = op.src.rows(), cols = op.src.cols(), n = most(cols - column, 32);
  constexpr int64_t kAhead = 512 / static_cast<int64_t>(sizeof(S));
  I32 line[2][16];
  for (int64_t r = 0; r < 32; ++r) {
    const S* from = op.src.as<S>() + (row + r) * cols + column;
    line[r / 16][r % 16] = row + r < rows ? row_of(from, n) : iset1(0);
    for (int64_t b = 0; b < 32; b += 64 / static_cast<int64_t>(sizeof(S))) __builtin_prefetch(from + kAhead + b);
  }
  if (t.backward) {
    I32 low[16], high[16];
    for (int s = 0; s < 16; ++s) {
      low[s] = side_by_side<0>(line[s / 8][s % 8 * 2], line[s / 8][s % 8 * 2 + 1]);
      high[s] = side_by_side<1>(line[s / 8][s % 8 * 2], line[s / 8][s % 8 * 2 + 1]);
    }
    int32_t* to = t.backward + column / 16 * t.backward_stride + row / 2 * 16;
    write_steps(t, to, low, 16);
    if (n > 16) write_steps(t, to + t.backward_stride, high, 16);
  }
  if (!t.forward) return;
  for (int i = 0; i < 2; ++i) {
    if (row + 16 * i >= rows) continue;
    transpose16(line[i]);
    write_steps(t, t.forward + (row / 16 + i) * t.forward_stride + column / 2 * 16, line[i], 16);
  }
}
#else
// Steps of bf16 are pairs: two rows side by side backward, two columns of a turned square forward.
template <class S>
void pack_square(const PackPanels& op, const Targets& t, int64_t row, int64_t column, bf16_t) {
  I32 square[2][2][16];
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) read_square<S, bf16_t>(op, row + 16 * i, column + 16 * j, square[i][j]);
  if (t.backward)
    for (int j = 0; j < 2; ++j) {
      if (column + 16 * j >= op.src.cols()) continue;
      I32 pairs[16];
      for (int i = 0; i < 2; ++i)
        for (int s = 0; s < 8; ++s) pairs[8 * i + s] = ior(square[i][j][2 * s], shl<16>(square[i][j][2 * s + 1]));
      write_steps(t, t.backward + (column / 16 + j) * t.backward_stride + row / 2 * 16, pairs, 16);
    }
  if (!t.forward) return;
  for (int i = 0; i < 2; ++i) {
    if (row + 16 * i >= op.src.rows()) continue;
    I32 pairs[16];
    for (int j = 0; j < 2; ++j) transpose16(square[i][j]);
    for (int j = 0; j < 2; ++j)
      for (int s = 0; s < 8; ++s) pairs[8 * j + s] = ior(square[i][j][2 * s], shl<16>(square[i][j][2 * s + 1]));
    write_steps(t, t.forward + (row / 16 + i) * t.forward_stride + column / 2 * 16, pairs, 16);
  }
}
#endif

template <class S, class D>
void pack(const PackPanels& op, const Exec& ex) {
  constexpr int64_t per = 4 / static_cast<int64_t>(sizeof(D));
  const int64_t rows = op.src.rows(), cols = op.src.cols();
  Targets t;
  t.forward = op.panels ? reinterpret_cast<int32_t*>(op.panels.as<D>()) : nullptr;
  t.backward = op.panels_t ? reinterpret_cast<int32_t*>(op.panels_t.as<D>()) : nullptr;
  t.forward_steps = per == 2 ? (cols + 31) / 32 * 16 : cols;
  t.backward_steps = per == 2 ? (rows + 31) / 32 * 16 : rows;
  t.forward_stride = t.forward_steps * 16, t.backward_stride = t.backward_steps * 16;
  constexpr int64_t kMany = 1 << 18;
  const auto on_line = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 64 == 0; };
  t.stream = rows * cols > kMany && on_line(t.forward) && on_line(t.backward);
  parallel_for(ex, (rows + 31) / 32, [&](int64_t i) {
    for (int64_t column = 0; column < cols; column += 32) pack_square<S>(op, t, i * 32, column, D{});
    end_streams();
  });
}

}  // namespace

void launch(KN_CPU, const PackPanels& op, const Exec& ex) {
  const View& dst = op.panels ? op.panels : op.panels_t;
  if (op.src.dtype == DType::bf16)
    pack<bf16_t, bf16_t>(op, ex);
  else if (dst.dtype == DType::bf16)
    pack<float, bf16_t>(op, ex);
  else
    pack<float, float>(op, ex);
}

}  // namespace llmctl::kn
