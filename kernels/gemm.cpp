// SPDX-License-Identifier: Apache-2.0
// Gemm on the CPU. A task is up to 128 rows times 12 panels; it runs leaf by leaf with its
// accumulators in a block on the stack (96 KiB a leaf, in L2), then the epilogue.
#include "kernels/gemm.h"

#include "kernels/gemm_tile.h"

namespace llmctl::kn {

#if KN_ONCE
int64_t panel_elements(DType dtype, int64_t contraction, int64_t columns) {
  const int64_t panels = (columns + kPanelColumns - 1) / kPanelColumns;
  const int64_t rows = dtype == DType::bf16 ? (contraction + 1) / 2 * 2 : contraction;
  return panels * rows * kPanelColumns;
}

namespace {
bool is_float(DType t) { return t == DType::f32 || t == DType::bf16; }

void check_leaves(const Gemm& g, int64_t k) {
  check(g.leaves.count >= 1 && g.leaves.count <= Leaves::kMax && g.leaves.parts >= 1 &&
            g.leaves.parts <= Leaves::kMaxParts && g.leaves.total() == k,
        Code::bug, "[gemm] leaves cover ", g.leaves.total(), " columns and x has ", k);
  if (g.x.dtype != DType::bf16) return;
  for (int l = 0; l < g.leaves.count; ++l)
    for (int p = 0; p < g.leaves.parts; ++p) {
      const Span s = g.leaves.span(l, p);
      check(s.begin == s.end || s.begin % 2 == 0, Code::bug, "[gemm] part ", p, " of leaf ", l,
            " starts at odd column ", s.begin, ": pairs cannot straddle it");
    }
}
}  // namespace

void Gemm::check() const {
  using llmctl::check;
  const int64_t m = x.rows(), k = x.cols();
  check(is_float(x.dtype) && x.dtype == w.dtype, Code::bug, "[gemm] x is ", name_of(x.dtype),
        " and w is ", name_of(w.dtype), ": both f32 or both bf16");
  check(k > 0 && n > 0 && w.size() == panel_elements(w.dtype, k, n), Code::bug, "[gemm] w has ",
        w.size(), " elements and panels of ", k, " x ", n, " have ", panel_elements(w.dtype, k, n));
  check(is_float(y.dtype) && y.rows() == m && y.cols() == n, Code::bug, "[gemm] y is ", y.rows(),
        " x ", y.cols(), " and the product is ", m, " x ", n);
  check(!bias || (is_float(bias.dtype) && bias.size() == n), Code::bug, "[gemm] bias has ",
        bias.size(), " elements and y has ", n, " columns");
  check(!residual || (is_float(residual.dtype) && residual.rows() == m && residual.cols() == n),
        Code::bug, "[gemm] residual is ", residual.rows(), " x ", residual.cols(), " and y is ", m,
        " x ", n);
  check(!accumulate || (y.dtype == DType::f32 && !bias && !residual), Code::bug,
        "[gemm] accumulate wants f32 y and neither bias nor residual, y is ", name_of(y.dtype));
  check_leaves(*this, k);
}
#endif

namespace {

constexpr int64_t kEnoughTasks = 8;
constexpr int64_t kAccumulators = kBlockRows * kTaskPanels * 16;

void finish(const Gemm& g, const Window& at, const float* acc) {
  const int64_t stride = at.panels * 16;
  const View before = g.accumulate ? g.y : g.residual;  // y + root is the residual's sum
  for (int64_t r = 0; r < at.rows; ++r)
    for (int64_t p = 0; p < at.panels; ++p)
      write_sum(g.y, g.bias, before, at.row + r, (at.panel + p) * 16, load(acc + r * stride + p * 16));
}

template <class T>
void run_leaf(const Gemm& g, const Window& at, int leaf, float* acc) {
  const int64_t k = g.x.cols(), steps = (k + kPerStep<T> - 1) / kPerStep<T>;
  TileArgs<T> t;
  t.a = g.x.as<T>() + at.row * k;
  t.lda = k;
  t.panel_stride = steps * 16 * kPerStep<T>;
  t.w = g.w.as<T>() + at.panel * t.panel_stride;
  t.acc = acc;
  t.acc_stride = at.panels * 16;
  t.resume = false;
  for (int part = 0; part < g.leaves.parts; ++part) {
    const Span s = g.leaves.span(leaf, part);
    if (s.begin == s.end) continue;
    t.begin = s.begin / kPerStep<T>;
    t.end = s.end / kPerStep<T>;
    t.half = s.end % kPerStep<T> != 0;
    advance_block<T, false>(t, at.rows, at.panels);
    t.resume = true;
  }
}

void add_into(float* left, const float* right, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) store(left + i, add(load(left + i), load(right + i)));
}

// Leaf sums join like the bits of a counter: after leaf i, equal-sized subtrees merge; what is left
// at the end folds from the right. Leaves that are empty trail, so this is the balanced tree.
template <class T>
void run_task(const Gemm& g, const Window& at) {
  constexpr int kDepth = 4;  // 8 leaves
  alignas(64) float acc[kDepth][kAccumulators];
  const int64_t n = at.rows * at.panels * 16;
  int depth = 0;
  for (int leaf = 0; leaf < g.leaves.count; ++leaf) {
    if (g.leaves.empty(leaf)) continue;
    run_leaf<T>(g, at, leaf, acc[depth++]);
    for (int done = leaf + 1; done % 2 == 0; done /= 2, --depth)
      add_into(acc[depth - 2], acc[depth - 1], n);
  }
  for (; depth > 1; --depth) add_into(acc[depth - 2], acc[depth - 1], n);
  finish(g, at, acc[0]);
}

template <class T>
void run_gemm(const Gemm& g, const Exec& ex) {
  const int64_t m = g.x.rows(), panels = (g.n + 15) / 16;
  const int64_t down = (m + kBlockRows - 1) / kBlockRows;
  // A narrow product of a few rows (a batch of decodes) would be one task: cut it finer, by shape.
  int64_t width = kTaskPanels;
  if (m >= kTileRows)
    while (width > kTilePanels && down * ((panels + width - 1) / width) < kEnoughTasks) width /= 2;
  const int64_t across = (panels + width - 1) / width;
  parallel_for(ex, down * across, [&](int64_t i) {
    Window at;
    at.row = i / across * kBlockRows;
    at.rows = m - at.row < kBlockRows ? m - at.row : kBlockRows;
    at.panel = i % across * width;
    at.panels = panels - at.panel < width ? panels - at.panel : width;
    run_task<T>(g, at);
  });
}

}  // namespace

void launch(KN_CPU, const Gemm& g, const Exec& ex) {
#if KN_ISA == 3
  const bool many = g.x.rows() >= kTileRows;  // fewer rows wait for memory in any case
  if (g.x.dtype == DType::bf16 && many && !pair_instruction_pays()) return launch(Cpu<Isa::avx512>{}, g, ex);
#endif
  g.x.dtype == DType::f32 ? run_gemm<float>(g, ex) : run_gemm<bf16_t>(g, ex);
}

}  // namespace llmctl::kn
