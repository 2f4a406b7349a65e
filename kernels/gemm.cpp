// SPDX-License-Identifier: Apache-2.0
// Gemm on the CPU. A task runs leaf by leaf with its accumulators in a block on the stack (in L2), then
// the epilogue.
#include "kernels/gemm.h"

#include "kernels/gemm_amx.h"
#include "kernels/gemm_block.h"
#include "kernels/gemm_grouped.h"

namespace llmctl::kn {

#if KN_ONCE
int64_t panel_elements(DType dtype, int64_t contraction, int64_t columns) {
  const int64_t panels = (columns + kPanelColumns - 1) / kPanelColumns;
  const int64_t rows = dtype == DType::bf16 ? (contraction + 31) / 32 * 32 : contraction;
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
      const int64_t whole = g.order == Bf16Order::pair ? 2 : 32;
      check(s.begin == s.end || s.begin % whole == 0, Code::bug, "[gemm] part ", p, " of leaf ", l, " starts at column ",
            s.begin, ", not a multiple of ", whole);
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

Gemm GroupedGemm::part(int64_t e, int64_t begin, int64_t end) const {
  const auto rows = [&](const View& v) {
    return View(v.as<char>() + begin * v.cols() * size_of(v.dtype), v.dtype, {end - begin, v.cols()});
  };
  return {.x = rows(x), .w = w[e], .y = rows(y), .n = n, .leaves = leaves, .bias = {}, .residual = {}, .order = order};
}

void GroupedGemm::check() const {
  const int64_t parts = starts.size() - 1;
  llmctl::check(starts.dtype == DType::i32 && parts >= 1 && parts <= kMaxGroups, Code::bug, "[gemm_grouped] starts has ",
                starts.size(), " elements of ", name_of(starts.dtype), ", want 2 to ", kMaxGroups + 1, " of i32");
  llmctl::check(x.rows() == y.rows(), Code::bug, "[gemm_grouped] x has ", x.rows(), " rows and y ", y.rows());
  for (int64_t e = 0; e < parts; ++e) part(e, 0, x.rows()).check();
}
#endif

namespace {

// A task: up to kBlockRows rows times this many panels, its leaves' sums waiting on the stack.
constexpr int64_t kTaskPanels = 32, kTaskPanelsLeaves = 16;
constexpr int kLeafDepth = 4;  // 8 leaves
constexpr int64_t kAccumulators = kBlockRows * kTaskPanelsLeaves * 16 * kLeafDepth;
static_assert(kBlockRows * kTaskPanels * 16 <= kAccumulators);

// y + root is the residual's sum.
void finish(const Gemm& g, const Window& at, const float* acc, int64_t stride) {
  write_sums(g.y, g.bias, g.accumulate ? g.y : g.residual, at, acc, stride);
}

void add_into(float* left, const float* right, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) store(left + i, add(load(left + i), load(right + i)));
}

// Leaf sums join like the bits of a counter: after leaf i, equal-sized subtrees merge; what is left
// at the end folds from the right. Leaves that are empty trail, so this is the balanced tree. leaf(i,
// sums) computes one; `room` floats lie between two sums of n, kLeafDepth of them.
template <class Leaf>
KN_INLINE void join_leaves(const Leaves& leaves, float* sums, int64_t room, int64_t n, Leaf&& leaf) {
  int depth = 0;
  for (int i = 0; i < leaves.count; ++i) {
    if (leaves.empty(i)) continue;
    leaf(i, sums + depth++ * room);
    for (int done = i + 1; done % 2 == 0; done /= 2, --depth)
      add_into(sums + (depth - 2) * room, sums + (depth - 1) * room, n);
  }
  for (; depth > 1; --depth) add_into(sums + (depth - 2) * room, sums + (depth - 1) * room, n);
}

template <class T, class W>
void run_leaf(const Gemm& g, const Window& at, int leaf, float* acc) {
  constexpr int64_t per = sizeof(W) / sizeof(T);
  const bool blocks = per == 2 && g.order == Bf16Order::amx32;
  const int64_t k = g.x.cols(), stride = g.w.size() / ((g.n + 15) / 16) / per, whole = blocks ? 32 : per;
  Chains to{acc, at.panels * 16, false};
  for (int part = 0; part < g.leaves.parts; ++part) {
    const Span s = g.leaves.span(leaf, part);
    if (s.begin == s.end) continue;
    advance_block(blocks, RowMajor<T>{g.x.as<T>() + at.row * k, k, s.end},
                  Right<W>{reinterpret_cast<const W*>(g.w.as<T>()) + at.panel * stride, stride, (g.n + 15) / 16 - at.panel},
                  Span{s.begin / per, (s.end + whole - 1) / whole * whole / per}, at.rows, at.panels, to);
    to.resume = true;
  }
}

template <class T, class W>
void run_task(const Gemm& g, const Window& at) {
  alignas(64) float acc[kAccumulators];
  const int64_t n = at.rows * at.panels * 16;
  join_leaves(g.leaves, acc, n, n, [&](int leaf, float* sums) { run_leaf<T, W>(g, at, leaf, sums); });
  finish(g, at, acc, at.panels * 16);
}

Tasks tasks_of(const Gemm& g, int64_t threads) {
  const int64_t m = g.x.rows(), panels = (g.n + 15) / 16;
  const int64_t most = m < kFew ? kWide[1] : g.leaves.count > 1 ? kTaskPanelsLeaves : kTaskPanels;
  return Tasks(m, panels, g.x.cols(), kBlockRows, most, 1, threads);
}

#if KN_ISA == 3
// The last step of a contraction that is no whole number of steps: its left tiles, filled up.
void copy_tail(const bf16_t* x, int64_t k, int64_t rows, int64_t from, bf16_t* to) {
  std::memset(to, 0, 2 * kTileBytes);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = from; c < k; ++c) to[r * 32 + c - from] = x[r * k + c];
}

// Advances the sums of a block over columns s. Each block of a pair of panels fetches its part of the
// next pair.
void advance_sums(const Gemm& g, const Blocks& blocks, int64_t i, Span s, bool resume, float* sums) {
  const Window block = blocks.at(i);
  const int64_t k = g.x.cols(), panel = (k + 31) / 32 * kTileBytes, first = s.begin / 32, steps = s.end / 32 - first;
  const bf16_t* x = g.x.as<bf16_t>() + block.row * k;
  const RightTiles right{g.w.as<char>() + block.panel * panel + first * kTileBytes, panel};
  advance_tiles({reinterpret_cast<const char*>(x + s.begin), k * 2, kTileSide * k * 2, 64}, right, steps, block.rows,
                block.panels, resume, sums, blocks.ahead(i));
  if (s.end % 32 == 0) return;
  alignas(64) bf16_t tail[kTileBytes];
  copy_tail(x, k, block.rows, s.end / 32 * 32, tail);
  advance_tiles({reinterpret_cast<const char*>(tail), 64, kTileBytes, 64}, {right.at + steps * kTileBytes, panel}, 1,
                block.rows, block.panels, resume || steps > 0, sums);
}

// The left rows of a task are to stay in L2 while its panels pass by. Where the contraction is too long
// for that, the whole task advances by kDeepColumns at a time, and all its sums wait in L2.
constexpr int64_t kDeep = 3072, kDeepColumns = 1024, kLeftBytes = 1 << 20;
constexpr int64_t kTilesRows = 256, kTilesPanels = 16;
constexpr int64_t kBlocksWaiting = kTilesRows / kBlockSide * kTilesPanels / 2;

// Advances a column of blocks, whose first is `first`, over columns s: in chunks where there are blocks
// enough to gain from it.
void advance_column(const Gemm& g, const Blocks& blocks, int64_t first, Span s, bool resume, float* sums, TileScope& scope) {
  const int64_t chunk = blocks.down() > 2 ? kChunkSteps * 32 : kDeep;
  for (int64_t c = s.begin; c < s.end; c += chunk, resume = true)
    for (int64_t b = 0; b < blocks.down(); ++b) {
      scope.rows(blocks.at(b).rows);
      advance_sums(g, blocks, first + b, {c, s.end - c < chunk ? s.end : c + chunk}, resume, sums + b * kBlockFloats);
    }
}

void tiles_task(const Gemm& g, const Window& at) {
  TileScope scope;
  alignas(64) float sums[kLeafDepth * kBlocksWaiting * kBlockFloats];
  const Blocks blocks{at};
  const bool deep = g.x.cols() > kDeep;
  const int64_t group = deep ? blocks.count() : blocks.down(), room = group * kBlockFloats;
  const int64_t piece = deep ? kDeepColumns : kDeep;
  for (int64_t first = 0; first < blocks.count(); first += group) {
    join_leaves(g.leaves, sums, room, room, [&](int leaf, float* to) {
      bool resume = false;
      for (int part = 0; part < g.leaves.parts; ++part) {
        const Span s = g.leaves.span(leaf, part);
        for (int64_t c = s.begin; c < s.end; c += piece, resume = true)
          for (int64_t b = 0; b < group; b += blocks.down())
            advance_column(g, blocks, first + b, {c, s.end - c < piece ? s.end : c + piece}, resume, to + b * kBlockFloats,
                           scope);
      }
    });
    for (int64_t b = 0; b < group; ++b) finish(g, blocks.at(first + b), sums + b * kBlockFloats, kBlockSide);
  }
}

Tasks tiles_of(const Gemm& g, int64_t threads) {
  const int64_t m = g.x.rows(), k = g.x.cols(), panels = (g.n + 15) / 16;
  const int64_t high = k > kDeep || k * kTilesRows * 2 <= kLeftBytes ? kTilesRows : kTilesRows / 2;
  const int64_t most = k <= kDeep ? kTaskPanels : kTilesPanels;
  return Tasks(m, panels, k, high, most, kBlockSide, threads);
}
#endif

// How an operand's kind is cut into tasks, and what one does.
struct Method {
  Tasks (*tasks)(const Gemm& g, int64_t threads);
  void (*run)(const Gemm& g, const Window& at);
};

Method method_of(const View& x, [[maybe_unused]] Bf16Order order, [[maybe_unused]] const Exec& ex) {
  if (x.dtype == DType::f32) return {tasks_of, run_task<float, float>};
#if KN_ISA == 3
  if (order == Bf16Order::amx32 && ex.isa == Isa::amx) return {tiles_of, tiles_task};
#endif
  return {tasks_of, run_task<bf16_t, Pair>};
}

}  // namespace

void launch(KN_CPU, const Gemm& g, const Exec& ex) {
  const Method method = method_of(g.x, g.order, ex);
  const Tasks tasks = method.tasks(g, ex.pool->threads());
  parallel_for(ex, tasks.count, [&](int64_t i) { method.run(g, tasks.at(i, g.x.rows(), (g.n + 15) / 16)); });
}

// The tasks of all parts side by side: parts of few rows keep the threads busy together.
void launch(KN_CPU, const GroupedGemm& g, const Exec& ex) {
  const Method method = method_of(g.x, g.order, ex);
  const int32_t* starts = g.starts.as<int32_t>();
  const int64_t parts = g.starts.size() - 1, panels = (g.n + 15) / 16;
  int64_t busy = 0, first[kMaxGroups + 1] = {};  // of each part: its first task
  for (int64_t e = 0; e < parts; ++e) busy += starts[e] < starts[e + 1];
  const int64_t threads = busy ? (ex.pool->threads() + busy - 1) / busy : 1;
  for (int64_t e = 0; e < parts; ++e)
    first[e + 1] = first[e] + (starts[e] < starts[e + 1] ? method.tasks(g.part(e, starts[e], starts[e + 1]), threads).count : 0);
  parallel_for(ex, first[parts], [&](int64_t i) {
    int64_t e = 0, end = parts;  // the last part whose tasks do not begin behind i, and has some
    while (end - e > 1) (first[(e + end) / 2] <= i ? e : end) = (e + end) / 2;
    const Gemm part = g.part(e, starts[e], starts[e + 1]);
    method.run(part, method.tasks(part, threads).at(i - first[e], part.x.rows(), panels));
  });
}

}  // namespace llmctl::kn
