// SPDX-License-Identifier: Apache-2.0
// GemmDw on the CPU: both operands are packed into panels of 16 columns whose steps are tokens
// (f32) or pairs of tokens (bf16), side by side already in memory; then the tiles of gemm_tile.h
// run over (n, k) with the tokens as contraction. Sums leave the registers once, into the gradient.
#include "kernels/fixed.h"
#include "kernels/gemm.h"
#include "kernels/gemm_tile.h"

namespace llmctl::kn {

namespace {
int64_t token_steps(DType dtype, int64_t tokens, int64_t seq) {
  return dtype == DType::bf16 ? tokens / seq * ((seq + 1) / 2) : tokens;
}
int64_t panels_of(int64_t columns) { return (columns + 15) / 16; }
}  // namespace

#if KN_ONCE
int64_t gemm_dw_workspace(DType dtype, int64_t tokens, int64_t seq, int64_t n, int64_t k) {
  return token_steps(dtype, tokens, seq) * (panels_of(n) + panels_of(k)) * 64;
}

void GemmDw::check() const {
  using llmctl::check;
  const int64_t tokens = dy.rows(), n = dy.cols(), k = x.cols();
  check((dy.dtype == DType::f32 || dy.dtype == DType::bf16) && dy.dtype == x.dtype, Code::bug,
        "[gemm_dw] dy is ", name_of(dy.dtype), " and x is ", name_of(x.dtype),
        ": both f32 or both bf16");
  check(x.rows() == tokens, Code::bug, "[gemm_dw] dy has ", tokens, " tokens and x ", x.rows());
  check(seq > 0 && tokens % seq == 0, Code::bug, "[gemm_dw] ", tokens,
        " tokens are not whole sequences of ", seq);
  check(!(resume || pause) || (chain.dtype == DType::f32 && chain.size() == n * k), Code::bug,
        "[gemm_dw] chain has ", chain.size(), " elements and the gradient ", n * k);
  check(pause || ((grad.dtype == DType::f32 || grad.dtype == DType::i64) && grad.size() == n * k),
        Code::bug, "[gemm_dw] grad has ", grad.size(), " elements, expected ", n * k);
  check(pause || grad.dtype != DType::i64 ||
            (parts >= 1 && overflow.dtype == DType::i32 && overflow.size() == 1),
        Code::bug, "[gemm_dw] fixed point wants parts >= 1 (got ", parts, ") and an overflow flag");
  const int64_t need = gemm_dw_workspace(dy.dtype, tokens, seq, n, k);
  check(work.bytes() >= need, Code::bug, "[gemm_dw] work has ", work.bytes(), " bytes, expected ",
        need);
}
#endif

namespace {

void pack_tokens(const float* from, int64_t tokens, int64_t, int64_t cols, int64_t n, float* to) {
  for (int64_t t = 0; t < tokens; ++t) store(to + t * 16, load(from + t * cols, n));
}

KN_INLINE I32 low_halves(const bf16_t* p, int64_t n) { return shr<16>(bits(load_bf16(p, n))); }

void pack_tokens(const bf16_t* from, int64_t tokens, int64_t seq, int64_t cols, int64_t n,
                 bf16_t* to) {
  for (int64_t s = 0; s < tokens; s += seq)
    for (int64_t t = s; t < s + seq; t += 2, to += 32) {
      I32 pair = low_halves(from + t * cols, n);
      if (t + 1 < s + seq) pair = ior(pair, shl<16>(low_halves(from + (t + 1) * cols, n)));
      istore(to, pair);
    }
}

template <class T>
void pack_both(const GemmDw& g, const Exec& ex, T* dy, T* x, int64_t panel_stride) {
  const int64_t left = panels_of(g.dy.cols()), right = panels_of(g.x.cols());
  parallel_for(ex, left + right, [&](int64_t i) {
    const View& from = i < left ? g.dy : g.x;
    const int64_t panel = i < left ? i : i - left, cols = from.cols();
    const int64_t n = cols - panel * 16 < 16 ? cols - panel * 16 : 16;
    pack_tokens(from.as<T>() + panel * 16, from.rows(), g.seq, cols, n,
                (i < left ? dy : x) + panel * panel_stride);
  });
}

constexpr int64_t kStride = kTaskPanels * 16;

void load_chain(const GemmDw& g, const Window& at, float* acc) {
  const int64_t k = g.x.cols();
  for (int64_t r = 0; r < at.rows; ++r)
    for (int64_t p = 0; p < at.panels; ++p) {
      const int64_t column = (at.panel + p) * 16;
      store(acc + r * kStride + p * 16,
            load(g.chain.as<float>() + (at.row + r) * k + column, k - column < 16 ? k - column : 16));
    }
}

void store_chain(const GemmDw& g, const Window& at, const float* acc) {
  const int64_t k = g.x.cols();
  for (int64_t r = 0; r < at.rows; ++r)
    for (int64_t p = 0; p < at.panels; ++p) {
      const int64_t column = (at.panel + p) * 16;
      store(g.chain.as<float>() + (at.row + r) * k + column, load(acc + r * kStride + p * 16),
            k - column < 16 ? k - column : 16);
    }
}

template <class G>
void join_gradient(const GemmDw& g, const Window& at, const float* acc, G* to) {
  const int64_t k = g.x.cols();
  FixedAdder adder = fixed_adder(g.parts);
  for (int64_t r = 0; r < at.rows; ++r)
    for (int64_t p = 0; p < at.panels; ++p) {
      const int64_t column = (at.panel + p) * 16, n = k - column < 16 ? k - column : 16;
      add_grad(adder, to + (at.row + r) * k + column, load(acc + r * kStride + p * 16), n);
    }
  if (refused(adder)) raise_flag(g.overflow.as<int32_t>());
}

template <class T>
void run_dw(const GemmDw& g, const Exec& ex) {
  const int64_t rows = g.dy.cols(), panels = panels_of(g.x.cols());
  const int64_t steps = token_steps(g.dy.dtype, g.dy.rows(), g.seq);
  const int64_t panel_stride = steps * 16 * kPerStep<T>;
  T* dy = g.work.as<T>();
  T* x = dy + panels_of(rows) * panel_stride;
  pack_both<T>(g, ex, dy, x, panel_stride);
  const int64_t across = (panels + kTaskPanels - 1) / kTaskPanels;
  const int64_t down = (rows + kBlockRows - 1) / kBlockRows;
  parallel_for(ex, down * across, [&](int64_t i) {
    alignas(64) float acc[kBlockRows * kStride];
    Window at;
    at.row = i / across * kBlockRows;
    at.rows = rows - at.row < kBlockRows ? rows - at.row : kBlockRows;
    at.panel = i % across * kTaskPanels;
    at.panels = panels - at.panel < kTaskPanels ? panels - at.panel : kTaskPanels;
    if (g.resume) load_chain(g, at, acc);
    advance_block<T, true>({dy + at.row / 16 * panel_stride, panel_stride, x + at.panel * panel_stride,
                            panel_stride, 0, steps, false, acc, kStride, g.resume},
                           at.rows, at.panels);
    if (g.pause)
      store_chain(g, at, acc);
    else if (g.grad.dtype == DType::i64)
      join_gradient(g, at, acc, g.grad.as<int64_t>());
    else
      join_gradient(g, at, acc, g.grad.as<float>());
  });
}

}  // namespace

void launch(KN_CPU, const GemmDw& g, const Exec& ex) {
#if KN_ISA == 3
  const bool many = g.dy.cols() >= kTileRows;
  if (g.x.dtype == DType::bf16 && many && !pair_instruction_pays()) return launch(Cpu<Isa::avx512>{}, g, ex);
#endif
  g.dy.dtype == DType::f32 ? run_dw<float>(g, ex) : run_dw<bf16_t>(g, ex);
}

}  // namespace llmctl::kn
