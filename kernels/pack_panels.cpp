// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm.h"
#include "kernels/simd.h"

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

KN_INLINE int64_t most16(int64_t n) { return n < 16 ? n : 16; }

// Columns are source columns: a step is one source row (f32) or two (bf16), side by side already.
template <class S, class D>
void pack_across(const PackPanels& op, int64_t panel) {
  const int64_t rows = op.src.rows(), cols = op.src.cols(), n = most16(cols - panel * 16);
  const S* from = op.src.as<S>() + panel * 16;
  constexpr int64_t per = 4 / static_cast<int64_t>(sizeof(D));
  const int64_t steps = (rows + per - 1) / per;
  D* to = op.dst.as<D>() + panel * steps * 16 * per;
  for (int64_t s = 0; s < steps; ++s) {
    I32 step = lanes(from + s * per * cols, n, D{});
    if constexpr (per == 2) {
      const bool pair = 2 * s + 1 < rows;
      step = ior(step, pair ? shl<16>(lanes(from + (2 * s + 1) * cols, n, D{})) : iset1(0));
    }
    istore(to + s * 16 * per, step);
  }
}

// Columns are source rows: 16 rows times 16 steps pass through a square that is written by rows
// and read by columns.
template <class S, class D>
void pack_down(const PackPanels& op, int64_t panel) {
  const int64_t cols = op.src.cols(), height = most16(op.src.rows() - panel * 16);
  constexpr int64_t per = 4 / static_cast<int64_t>(sizeof(D));
  const int64_t steps = (cols + per - 1) / per;
  D* to = op.dst.as<D>() + panel * steps * 16 * per;
  alignas(64) uint32_t square[16][16] = {};
  for (int64_t s = 0; s < steps; s += 16) {
    for (int64_t r = 0; r < height; ++r) {
      const S* from = op.src.as<S>() + (panel * 16 + r) * cols + s * per;
      for (int64_t h = 0; h < per; ++h) {
        const int64_t left = cols - s * per - h * 16;
        const I32 values = lanes(from + h * 16, left < 0 ? 0 : most16(left), D{});
        if constexpr (per == 2)
          store_u16(reinterpret_cast<char*>(square[r]) + h * 32, values);
        else
          istore(square[r], values);
      }
    }
    const int64_t width = most16(steps - s);
    for (int64_t i = 0; i < width; ++i) {
      alignas(64) uint32_t column[16];
      for (int64_t r = 0; r < 16; ++r) column[r] = square[r][i];
      std::memcpy(to + (s + i) * 16 * per, column, 64);
    }
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
