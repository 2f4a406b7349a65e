// SPDX-License-Identifier: Apache-2.0
// GemmDw on the CPU: x is packed into panels of 16 columns whose steps are tokens (f32) or pairs of
// tokens (bf16), side by side already in memory; a task packs its columns of dy the same way, to where
// they stay in its L2, unless the part is too long for that. Then blocks of (n, k) run with the tokens
// as contraction. Sums leave the caches once, into the gradient.
#include "kernels/fixed.h"
#include "kernels/gemm.h"
#include "kernels/gemm_amx.h"
#include "kernels/gemm_block.h"

namespace llmctl::kn {

namespace {
// Steps of one sequence: its tokens, pairs of tokens, or pairs up to whole blocks.
int64_t sequence_steps(DType dtype, Bf16Order order, int64_t seq) {
  if (dtype != DType::bf16) return seq;
  return order == Bf16Order::pair ? (seq + 1) / 2 : (seq + 31) / 32 * 16;
}
int64_t panels_of(int64_t columns) { return (columns + 15) / 16; }
// A task packs its columns of dy itself if its rows' panels of so many steps fit on its stack.
constexpr int64_t kLeftWords = 1 << 18;
constexpr bool packs_left(int64_t steps) { return steps * kBlockRows <= kLeftWords; }
}  // namespace

#if KN_ONCE
int64_t gemm_dw_workspace(DType dtype, int64_t tokens, int64_t seq, int64_t n, int64_t k, Bf16Order order) {
  const int64_t steps = tokens / seq * sequence_steps(dtype, order, seq);
  return (steps * ((packs_left(steps) ? 0 : panels_of(n)) + panels_of(k)) + 1) * 64;  // a vector more: packing reads ahead
}

void GemmDw::check() const {
  using llmctl::check;
  const int64_t tokens = dy.rows(), n = dy.cols(), k = x.cols();
  check((dy.dtype == DType::f32 || dy.dtype == DType::bf16) && dy.dtype == x.dtype, Code::bug,
        "[gemm_dw] dy is ", name_of(dy.dtype), " and x is ", name_of(x.dtype),
        ": both f32 or both bf16");
  check(x.rows() == tokens, Code::bug, "[gemm_dw] dy has ", tokens, " tokens and x ", x.rows());
  check(tokens > 0 && seq > 0 && tokens % seq == 0, Code::bug, "[gemm_dw] ", tokens,
        " tokens are not whole sequences of ", seq);
  check(!(resume || pause) || (chain.dtype == DType::f32 && chain.size() == n * k), Code::bug,
        "[gemm_dw] chain has ", chain.size(), " elements and the gradient ", n * k);
  check(pause || ((grad.dtype == DType::f32 || grad.dtype == DType::i64) && grad.size() == n * k),
        Code::bug, "[gemm_dw] grad has ", grad.size(), " elements, expected ", n * k);
  check(pause || !only || grad.dtype == DType::f32, Code::bug, "[gemm_dw] the only part of a gradient is f32, not ",
        name_of(grad.dtype));
  check(pause || (grad.dtype != DType::i64 && !only) ||
            (parts >= 1 && overflow.dtype == DType::i32 && overflow.size() == 1),
        Code::bug, "[gemm_dw] fixed point wants parts >= 1 (got ", parts, ") and an overflow flag");
  const int64_t need = gemm_dw_workspace(dy.dtype, tokens, seq, n, k, order);
  check(work.bytes() >= need, Code::bug, "[gemm_dw] work has ", work.bytes(), " bytes, expected ",
        need);
}
#endif

namespace {

KN_INLINE I32 low_halves(const bf16_t* p, int64_t n) { return shr<16>(bits(load_bf16(p, n))); }

// Pair i of a sequence that starts at `from`: 16 columns, missing tokens +0.
KN_INLINE I32 token_pair(const bf16_t* from, int64_t i, int64_t seq, int64_t cols, int64_t n) {
  if (2 * i >= seq) return iset1(0);
  const I32 first = low_halves(from + 2 * i * cols, n);
  return 2 * i + 1 < seq ? ior(first, shl<16>(low_halves(from + (2 * i + 1) * cols, n))) : first;
}

// n steps of a sequence from step `first` on: 16 columns.
void pack_steps(const float* from, int64_t first, int64_t n, int64_t, int64_t cols, int64_t width, float* to) {
  for (int64_t i = 0; i < n; ++i) store(to + i * 16, load(from + (first + i) * cols, width));
}
void pack_steps(const bf16_t* from, int64_t first, int64_t n, int64_t seq, int64_t cols, int64_t width, Pair* to) {
  for (int64_t i = 0; i < n; ++i) istore(to + i * 16, token_pair(from, first + i, seq, cols, width));
}

// 16 steps of columns [column, column + count) at a time: as many rows are read along, whole lines of them.
struct Columns {
  int64_t begin, count;
};
template <class T, class W>
void pack_block(const GemmDw& g, const View& from, Columns columns, int64_t block, W* to, int64_t stride) {
  const int64_t cols = from.cols(), each = sequence_steps(from.dtype, g.order, g.seq), blocks = (each + 15) / 16;
  const int64_t sequence = block / blocks, first = block % blocks * 16, n = each - first < 16 ? each - first : 16;
  const T* rows = from.as<T>() + sequence * g.seq * cols + columns.begin;
  W* steps = to + (sequence * each + first) * 16;
  for (int64_t c = 0; c < columns.count; c += 16, steps += stride)
    pack_steps(rows + c, first, n, g.seq, cols, columns.count - c < 16 ? columns.count - c : 16, steps);
}
int64_t blocks_of(const GemmDw& g) {
  return g.x.rows() / g.seq * ((sequence_steps(g.x.dtype, g.order, g.seq) + 15) / 16);
}
template <class T, class W>
void pack_panels(const GemmDw& g, const Exec& ex, const View& from, W* to, int64_t stride) {
  parallel_for(ex, blocks_of(g), [&](int64_t b) { pack_block<T>(g, from, {0, from.cols()}, b, to, stride); });
}

constexpr int64_t kTaskPanels = 32;  // a task: kBlockRows rows of dW times so many panels

// The sums of a window, `stride` floats between rows.
void load_chain(const GemmDw& g, const Window& at, float* acc, int64_t stride) {
  const int64_t k = g.x.cols();
  for (int64_t r = 0; r < at.rows; ++r)
    for (int64_t p = 0; p < at.panels; ++p) {
      const int64_t column = (at.panel + p) * 16;
      store(acc + r * stride + p * 16,
            load(g.chain.as<float>() + (at.row + r) * k + column, k - column < 16 ? k - column : 16));
    }
}

void store_chain(const GemmDw& g, const Window& at, const float* acc, int64_t stride) {
  const int64_t k = g.x.cols();
  for (int64_t r = 0; r < at.rows; ++r)
    for (int64_t p = 0; p < at.panels; ++p) {
      const int64_t column = (at.panel + p) * 16;
      store(g.chain.as<float>() + (at.row + r) * k + column, load(acc + r * stride + p * 16),
            k - column < 16 ? k - column : 16);
    }
}

template <bool only, class G>
void join_gradient(const GemmDw& g, const Window& at, const float* acc, int64_t stride, G* to) {
  const int64_t k = g.x.cols();
  // A gradient that is stored once is read again when all the others have passed.
  const bool lines = only && k % 16 == 0 && reinterpret_cast<uintptr_t>(to) % 64 == 0;
  FixedAdder adder = fixed_adder(g.parts);
  for (int64_t r = 0; r < at.rows; ++r)
    for (int64_t p = 0; p < at.panels; ++p) {
      const int64_t column = (at.panel + p) * 16, n = k - column < 16 ? k - column : 16;
      const F32 sum = load(acc + r * stride + p * 16);
      if constexpr (only)
        if (lines)
          stream(to + (at.row + r) * k + column, bits(rounded_fixed(adder, sum)));
        else
          store(to + (at.row + r) * k + column, rounded_fixed(adder, sum), n);
      else
        add_grad(adder, to + (at.row + r) * k + column, sum, n);
    }
  if (lines) end_streams();
  if (refused(adder)) raise_flag(g.overflow.as<int32_t>());
}

void finish(const GemmDw& g, const Window& at, const float* acc, int64_t stride) {
  if (g.pause)
    store_chain(g, at, acc, stride);
  else if (g.grad.dtype == DType::i64)
    join_gradient<false>(g, at, acc, stride, g.grad.as<int64_t>());
  else if (g.only)
    join_gradient<true>(g, at, acc, stride, g.grad.as<float>());
  else
    join_gradient<false>(g, at, acc, stride, g.grad.as<float>());
}

template <class T, class W>
void run_dw(const GemmDw& g, const Exec& ex) {
  const int64_t rows = g.dy.cols(), panels = panels_of(g.x.cols());
  const int64_t steps = g.dy.rows() / g.seq * sequence_steps(g.dy.dtype, g.order, g.seq), stride = steps * 16;
  W* x = reinterpret_cast<W*>(g.work.as<unsigned char>());
  W* dy = x + panels * stride;
  pack_panels<T>(g, ex, g.x, x, stride);
  const bool own = packs_left(steps);
  if (!own) pack_panels<T>(g, ex, g.dy, dy, stride);
  const Tasks tasks(rows, panels, g.dy.rows(), kBlockRows, kTaskPanels, 16, ex.pool->threads());
  parallel_for(ex, tasks.count, [&](int64_t i) {
    alignas(64) float acc[kBlockRows * kTaskPanels * 16];
    alignas(64) W scratch[kLeftWords + 16];
    const Window at = tasks.at(i, rows, panels);
    if (own)
      for (int64_t b = 0; b < blocks_of(g); ++b) pack_block<T>(g, g.dy, {at.row, at.rows}, b, scratch, stride);
    const W* left = own ? scratch : dy + at.row / 16 * stride;
    if (g.resume) load_chain(g, at, acc, at.panels * 16);
    advance_block(g.order == Bf16Order::amx32, InPanels{reinterpret_cast<const Pair*>(left), stride},
                  Right<W>{x + at.panel * stride, stride, panels - at.panel}, Span{0, steps}, at.rows, at.panels,
                  Chains{acc, at.panels * 16, g.resume});
    finish(g, at, acc, at.panels * 16);
  });
}

#if KN_ISA == 3
// Rows of dW, columns of dy, as left tiles, [row tile][step][16 rows][32 tokens].
void pack_left_tiles(const GemmDw& g, int64_t row, int64_t rows, int64_t steps, Pair* to) {
  const int64_t cols = g.dy.cols(), blocks = sequence_steps(DType::bf16, g.order, g.seq) / 16;
  const bf16_t* from = g.dy.as<bf16_t>() + row;
  for (int64_t s = 0; s < steps; s += blocks, from += g.seq * cols)
    for (int64_t b = 0; b < blocks; ++b)
      for (int64_t r = 0; r < rows; r += 16) {
        const int64_t n = cols - row - r < 16 ? cols - row - r : 16;
        I32 square[16];
        for (int64_t p = 0; p < 16; ++p) square[p] = token_pair(from + r, b * 16 + p, g.seq, cols, n);
        transpose16(square);
        Pair* tile = to + (r / 16 * steps + s + b) * 256;
        for (int64_t i = 0; i < 16; ++i) istore(tile + i * 16, square[i]);
      }
}

void fetch_lines(const View& to, int64_t k, const Window& at) {
  const int64_t bytes = size_of(to.dtype), column = at.panel * 16, width = (k - column < 32 ? k - column : 32) * bytes;
  for (int64_t r = 0; r < at.rows; ++r)
    for (int64_t b = 0; b < width; b += 64)
      _mm_prefetch(to.as<char>() + ((at.row + r) * k + column) * bytes + b, _MM_HINT_T1);
}
// The gradient's lines, wanted when the block's products are done; one that is only stored is not read.
void fetch_gradient(const GemmDw& g, const Window& at) {
  if (!g.only && !g.pause) fetch_lines(g.grad, g.x.cols(), at);
}

// A task makes up to kDwRows rows of dW, all columns of them where there are enough tasks: it packs its
// left tiles itself, to where they stay in L2 while the panels pass by.
constexpr int64_t kDwRows = 256;

struct DwTiles {
  const Pair *left, *right;
  int64_t steps;
};

// A column of blocks, whose first is `first`, chunk by chunk.
void run_column(const GemmDw& g, const DwTiles& t, const Blocks& blocks, int64_t first, TileScope& scope) {
  alignas(64) float sums[kDwRows / kBlockSide * kBlockFloats];
  const int64_t stride = t.steps * kTileBytes;
  if (g.resume)
    for (int64_t b = 0; b < blocks.down(); ++b) load_chain(g, blocks.at(first + b), sums + b * kBlockFloats, kBlockSide);
  for (int64_t s = 0; s < t.steps; s += kChunkSteps) {
    const int64_t n = t.steps - s < kChunkSteps ? t.steps - s : kChunkSteps;
    for (int64_t b = 0; b < blocks.down(); ++b) {
      const Window at = blocks.at(first + b);
      if (s + n == t.steps) fetch_gradient(g, at);
      // What the next column goes on from.
      if (g.resume && s == 0 && first + blocks.down() < blocks.count())
        fetch_lines(g.chain, g.x.cols(), blocks.at(first + blocks.down() + b));
      scope.rows(at.rows);
      const LeftTiles left{reinterpret_cast<const char*>(t.left + (b * 2 * t.steps + s) * 256), 64, stride, kTileBytes};
      const RightTiles right{reinterpret_cast<const char*>(t.right + (at.panel * t.steps + s) * 256), stride};
      advance_tiles(left, right, n, at.rows, at.panels, g.resume || s > 0, sums + b * kBlockFloats,
                    blocks.ahead(first + b));
    }
  }
  for (int64_t b = 0; b < blocks.down(); ++b) finish(g, blocks.at(first + b), sums + b * kBlockFloats, kBlockSide);
}

void run_tiles(const GemmDw& g, const Exec& ex) {
  const int64_t rows = g.dy.cols(), panels = panels_of(g.x.cols()), threads = ex.pool->threads();
  const int64_t steps = g.dy.rows() / g.seq * sequence_steps(DType::bf16, g.order, g.seq) / 16;
  Pair* x = reinterpret_cast<Pair*>(g.work.as<unsigned char>());
  Pair* dy = x + panels * steps * 256;  // for parts of more tokens than a task has room for
  pack_panels<bf16_t>(g, ex, g.x, x, steps * 256);
  const int64_t room = kLeftWords / (steps * 16) / kBlockSide * kBlockSide;
  int64_t high = rows < 4 * threads * kDwRows ? kDwRows / 2 : kDwRows;
  const bool own = packs_left(steps * 16);
  if (!own)
    parallel_for(ex, panels_of(rows), [&](int64_t t) { pack_left_tiles(g, t * 16, 16, steps, dy + t * steps * 256); });
  else if (room < high)
    high = room;
  const int64_t down = (rows + high - 1) / high;
  const int64_t across = down >= 2 * threads ? 1 : (2 * threads + down - 1) / down;
  const int64_t wide = ((panels + across - 1) / across + 1) / 2 * 2, times = (panels + wide - 1) / wide;
  parallel_for(ex, down * times, [&](int64_t task) {
    alignas(64) Pair scratch[kLeftWords];
    const int64_t row = task / times * high, panel = task % times * wide;
    const Window at{row, rows - row < high ? rows - row : high, panel, panels - panel < wide ? panels - panel : wide};
    if (own) pack_left_tiles(g, row, at.rows, steps, scratch);
    TileScope scope;
    const Blocks blocks{at};
    for (int64_t first = 0; first < blocks.count(); first += blocks.down())
      run_column(g, {own ? scratch : dy + row / 16 * steps * 256, x, steps}, blocks, first, scope);
  });
}
#endif

}  // namespace

void launch(KN_CPU, const GemmDw& g, const Exec& ex) {
#if KN_ISA == 3
  const bool blocks = g.x.dtype == DType::bf16 && g.order == Bf16Order::amx32;
  if (blocks && ex.isa == Isa::amx) return run_tiles(g, ex);
#endif
  g.dy.dtype == DType::f32 ? run_dw<float, float>(g, ex) : run_dw<bf16_t, Pair>(g, ex);
}

}  // namespace llmctl::kn
