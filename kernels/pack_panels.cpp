// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm.h"
#include "kernels/transpose.h"

namespace llmctl::kn {

#if KN_ONCE
void PackPanels::check() const {
  using llmctl::check;
  auto is_float = [](DType t) { return t == DType::f32 || t == DType::bf16; };
  check(is_float(src.dtype) && is_float(dst.dtype) &&
            (src.dtype == dst.dtype || src.dtype == DType::f32),
        Code::bug, "[pack_panels] ", name_of(src.dtype), " to ", name_of(dst.dtype),
        " is not offered");
  const int64_t columns = transpose ? src.cols() : src.rows();
  const int64_t contraction = transpose ? src.rows() : src.cols();
  check(dst.size() == panel_elements(dst.dtype, contraction, columns), Code::bug,
        "[pack_panels] dst has ", dst.size(), " elements and the panels ",
        panel_elements(dst.dtype, contraction, columns));
}
#endif

namespace {

// Sixteen source values as the destination's bits, one per lane (bf16 in the low halves).
KN_INLINE I32 lanes(const float* p, int64_t n, float) { return bits(load(p, n)); }
KN_INLINE I32 lanes(const float* p, int64_t n, bf16_t) { return round_bf16(load(p, n)); }
KN_INLINE I32 lanes(const bf16_t* p, int64_t n, bf16_t) { return shr<16>(bits(load_bf16(p, n))); }

KN_INLINE DType dtype_of(float) { return DType::f32; }
KN_INLINE DType dtype_of(bf16_t) { return DType::bf16; }
KN_INLINE int64_t most16(int64_t n) { return n < 16 ? n : 16; }

// Columns are source columns: a step is one source row (f32) or two (bf16), side by side already.
template <class S, class D>
void pack_across(const PackPanels& op, int64_t panel) {
  const int64_t rows = op.src.rows(), cols = op.src.cols(), n = most16(cols - panel * 16);
  const S* from = op.src.as<S>() + panel * 16;
  constexpr int64_t per = 4 / static_cast<int64_t>(sizeof(D));
  const int64_t steps = panel_elements(dtype_of(D{}), rows, 16) / 16 / per;
  D* to = op.dst.as<D>() + panel * steps * 16 * per;
  for (int64_t s = 0; s < steps; ++s) {
    I32 step = s * per < rows ? lanes(from + s * per * cols, n, D{}) : iset1(0);
    if constexpr (per == 2) {
      const bool pair = 2 * s + 1 < rows;
      step = ior(step, pair ? shl<16>(lanes(from + (2 * s + 1) * cols, n, D{})) : iset1(0));
    }
    istore(to + s * 16 * per, step);
  }
}

// Columns are source rows: squares of 16 rows times 16 steps are transposed.
template <class S, class D>
void pack_down(const PackPanels& op, int64_t panel) {
  const int64_t cols = op.src.cols(), height = most16(op.src.rows() - panel * 16);
  constexpr int64_t per = 4 / static_cast<int64_t>(sizeof(D));
  const int64_t steps = panel_elements(dtype_of(D{}), cols, 16) / 16 / per;
  D* to = op.dst.as<D>() + panel * steps * 16 * per;
  for (int64_t s = 0; s < steps; s += 16) {
    I32 square[16];
    for (int64_t r = 0; r < 16; ++r) {
      square[r] = iset1(0);
      if (r >= height) continue;
      const S* from = op.src.as<S>() + (panel * 16 + r) * cols + s * per;
      const int64_t left = cols - s * per;
      if constexpr (per == 1) {
        square[r] = lanes(from, left < 0 ? 0 : most16(left), D{});
      } else {
        alignas(64) bf16_t row[32];
        store_u16(row, lanes(from, left < 0 ? 0 : most16(left), D{}));
        store_u16(row + 16, left > 16 ? lanes(from + 16, most16(left - 16), D{}) : iset1(0));
        square[r] = iload(row);
      }
    }
    transpose16(square);
    const int64_t width = most16(steps - s);
    for (int64_t i = 0; i < width; ++i) istore(to + (s + i) * 16 * per, square[i]);
  }
}

template <class S, class D>
void pack(const PackPanels& op, const Exec& ex) {
  const int64_t columns = op.transpose ? op.src.cols() : op.src.rows();
  parallel_for(ex, (columns + 15) / 16, [&](int64_t panel) {
    op.transpose ? pack_across<S, D>(op, panel) : pack_down<S, D>(op, panel);
  });
}

}  // namespace

void launch(KN_CPU, const PackPanels& op, const Exec& ex) {
  if (op.src.dtype == DType::bf16)
    pack<bf16_t, bf16_t>(op, ex);
  else if (op.dst.dtype == DType::bf16)
    pack<float, bf16_t>(op, ex);
  else
    pack<float, float>(op, ex);
}

}  // namespace llmctl::kn
