// SPDX-License-Identifier: Apache-2.0
// QuantGemm on the CPU.
//
// Panels of 16 columns: for each panel, for each group: 16 scales (f32), then the group's weights
// as unsigned bytes q + 128 (8 bits) or nibbles q + 8 (4 bits), in steps of four contraction
// indices. 8 bits: [step][column][4]. 4 bits: [two steps][column][4], the low nibble belonging to
// the first step, the high one to the second. Padding has q = 0.
//
// Unsigned weights times signed activations is what vpdpbusd multiplies, and it does not saturate;
// the offset's share, offset * sum(activations), starts the integer accumulator with a minus.
// Then, per group in increasing order and with every operation rounded:
//   acc = acc + (float(dot) * sx) * sw
#include "kernels/quant_gemm.h"

#include "kernels/dot4.h"
#include "kernels/gemm_block.h"
#include "kernels/quant_amx.h"

namespace llmctl::kn {

#if KN_ONCE
int64_t quant_panel_bytes(int bits, int64_t n, int64_t k, int64_t group) {
  const Groups g = groups_of(k, group, bits);
  return (n + 15) / 16 * g.count * g.bytes;
}

void PackQuantPanels::check() const {
  using llmctl::check;
  const int64_t n = q.rows(), k = q.cols();
  check(bits == 8 || bits == 4, Code::bug, "[pack_quant_panels] bits is ", bits, ", not 4 or 8");
  check(group > 0 && group % 32 == 0, Code::bug, "[pack_quant_panels] group is ", group,
        ", not a multiple of 32");
  check(q.dtype == DType::i8 && scale.dtype == DType::f32 &&
            scale.size() == n * ((k + group - 1) / group),
        Code::bug, "[pack_quant_panels] scale has ", scale.size(), " elements for q of ", n, " x ", k);
  check(dst.bytes() == quant_panel_bytes(bits, n, k, group), Code::bug,
        "[pack_quant_panels] dst has ", dst.bytes(), " bytes and the panels ",
        quant_panel_bytes(bits, n, k, group));
}

void QuantGemm::check() const {
  using llmctl::check;
  const int64_t m = q.rows(), k = q.cols();
  auto is_float = [](DType t) { return t == DType::f32 || t == DType::bf16; };
  check((bits == 8 || bits == 4) && group > 0 && group % 32 == 0, Code::bug, "[quant_gemm] bits ",
        bits, " (4 or 8) and group ", group, " (a multiple of 32)");
  check(q.dtype == DType::i8 && scale.dtype == DType::f32 &&
            scale.size() == m * ((k + group - 1) / group),
        Code::bug, "[quant_gemm] scale has ", scale.size(), " elements for q of ", m, " x ", k);
  check(k > 0 && n > 0 && w.bytes() == quant_panel_bytes(bits, n, k, group), Code::bug,
        "[quant_gemm] w has ", w.bytes(), " bytes and the panels ",
        quant_panel_bytes(bits, n, k, group));
  check(is_float(y.dtype) && y.rows() == m && y.cols() == n, Code::bug, "[quant_gemm] y is ",
        y.rows(), " x ", y.cols(), " and the product is ", m, " x ", n);
  check(!bias || (is_float(bias.dtype) && bias.size() == n), Code::bug, "[quant_gemm] bias has ",
        bias.size(), " elements and y has ", n, " columns");
  check(!residual || (is_float(residual.dtype) && residual.rows() == m && residual.cols() == n),
        Code::bug, "[quant_gemm] residual is ", residual.rows(), " x ", residual.cols(),
        " and y is ", m, " x ", n);
}
#endif

namespace {

KN_INLINE I32 spread4(const int8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return iset1(four);
}

#if KN_ISA >= 2
constexpr int kQuantRows = 8, kQuantPanels = 3;
#else
constexpr int kQuantRows = kMaxRows, kQuantPanels = 1;
#endif
constexpr int64_t kTaskPanels = 12;

struct QuantTile {
  const int8_t* a;      // row 0, first column of the group
  int64_t lda;
  const char* w;        // first panel, this group
  int64_t panel_stride;
  int64_t length;       // columns of the group that exist
  const int32_t* start; // per row: -offset * sum of its activations in the group
  const float* sx;      // per row, stride sx_stride
  int64_t sx_stride;
  float* acc;           // [rows][acc_stride]
  int64_t acc_stride;
};

// Steps 2t and 2t+1 (4 bits) or t (8 bits) of the V panels against R rows.
template <int bits, int R, int V>
KN_INLINE void quant_step(I32 (&dot)[R][V], const QuantTile& t, const int8_t* a, int64_t lda,
                          const char* w) {
  I32 b[V];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) b[v] = iload(w + v * t.panel_stride);
#pragma GCC unroll 2
  for (int half = 0; half < 8 / bits; ++half)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const I32 x = spread4(a + r * lda + half * 4);
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        I32 u8 = b[v];
        if constexpr (bits == 4) u8 = iand(half ? shr<4>(u8) : u8, iset1(0x0f0f0f0f));
        dot[r][v] = dot4(dot[r][v], u8, x);
      }
    }
}

template <int bits, int R, int V>
void quant_tile(const QuantTile& t) {
  constexpr int64_t step = 32 / bits;  // columns of one 64-byte load
  I32 dot[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) dot[r][v] = iset1(t.start[r]);
  const char* w = t.w + 64;
  int64_t c = 0;
  for (; c + step <= t.length; c += step, w += 64)
    quant_step<bits, R, V>(dot, t, t.a + c, t.lda, w);
  if (c < t.length) {
    int8_t last[R][step] = {};
    for (int r = 0; r < R; ++r)
      for (int64_t i = c; i < t.length; ++i) last[r][i - c] = t.a[r * t.lda + i];
    quant_step<bits, R, V>(dot, t, &last[0][0], step, w);
  }
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) {
    const F32 sw = load(reinterpret_cast<const float*>(t.w + v * t.panel_stride));
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      float* acc = t.acc + r * t.acc_stride + v * 16;
      store(acc, add(load(acc), mul(mul(to_float(dot[r][v]), set1(t.sx[r * t.sx_stride])), sw)));
    }
  }
}

template <int bits, int R>
void quant_panels(QuantTile t, int64_t count) {
  auto take = [&]<int V>(std::integral_constant<int, V>) {
    for (; count >= V; count -= V) {
      quant_tile<bits, R, V>(t);
      t.w += V * t.panel_stride;
      t.acc += V * 16;
    }
  };
  if constexpr (R < kFew)
    if constexpr (kWide[R] > kQuantPanels) take(std::integral_constant<int, kWide[R]>{});
  if constexpr (kQuantPanels >= 3) take(std::integral_constant<int, 3>{});
  if constexpr (kQuantPanels >= 2) take(std::integral_constant<int, 2>{});
  take(std::integral_constant<int, 1>{});
}

template <int bits, int R>
void quant_rows(const QuantTile& t, int64_t rows, int64_t count) {
  if (rows == R) return quant_panels<bits, R>(t, count);
  if constexpr (R > 1) quant_rows<bits, R - 1>(t, rows, count);
}

void start_rows(const QuantTile& t, int64_t rows, int32_t offset, int32_t* start) {
  for (int64_t r = 0; r < rows; ++r) {
    int32_t sum = 0;
    for (int64_t i = 0; i < t.length; ++i) sum += t.a[r * t.lda + i];
    start[r] = -offset * sum;
  }
}

// Groups outermost, so that the activations' sums serve all panels of the task; the accumulators
// wait in a block on the stack.
template <int bits>
void run_task(const QuantGemm& g, const Window& at) {
  alignas(64) float acc[kBlockRows * kTaskPanels * 16];
  int32_t start[kBlockRows];
  const Groups groups = groups_of(g.q.cols(), g.group, bits);
  const int64_t group_tile = at.rows < kQuantRows ? at.panels : kQuantPanels, stride = at.panels * 16;
  for (int64_t i = 0; i < at.rows * stride; i += 16) store(acc + i, zero());
  for (int64_t i = 0; i < groups.count; ++i) {
    QuantTile t;
    const int64_t column = i * groups.group;
    t.length = groups.k - column < groups.group ? groups.k - column : groups.group;
    t.lda = groups.k;
    t.panel_stride = groups.count * groups.bytes;
    t.sx_stride = groups.count;
    t.acc_stride = stride;
    t.a = g.q.as<int8_t>() + at.row * groups.k + column;
    start_rows(t, at.rows, bits == 8 ? 128 : 8, start);
    for (int64_t p = 0; p < at.panels; p += group_tile) {
      const int64_t panels = at.panels - p < group_tile ? at.panels - p : group_tile;
      for (int64_t r = 0; r < at.rows; r += kQuantRows) {
        t.a = g.q.as<int8_t>() + (at.row + r) * groups.k + column;
        t.w = g.w.as<char>() + (at.panel + p) * t.panel_stride + i * groups.bytes;
        t.start = start + r;
        t.sx = g.scale.as<float>() + (at.row + r) * groups.count + i;
        t.acc = acc + r * stride + p * 16;
        const int64_t rows = at.rows - r < kQuantRows ? at.rows - r : kQuantRows;
        quant_rows<bits, kQuantRows>(t, rows, panels);
      }
    }
  }
  write_sums(g.y, g.bias, g.residual, at, acc, stride);
}

}  // namespace

void launch(KN_CPU, const QuantGemm& g, const Exec& ex) {
#if KN_ISA == 3
  if (fits_quant_tiles(g, ex)) return run_quant_tiles(g, ex);
#endif
  const int64_t m = g.q.rows(), panels = (g.n + 15) / 16;
  const int64_t across = (panels + kTaskPanels - 1) / kTaskPanels;
  const int64_t down = (m + kBlockRows - 1) / kBlockRows;
  parallel_for(ex, down * across, [&](int64_t i) {
    Window at;
    at.row = i / across * kBlockRows;
    at.rows = m - at.row < kBlockRows ? m - at.row : kBlockRows;
    at.panel = i % across * kTaskPanels;
    at.panels = panels - at.panel < kTaskPanels ? panels - at.panel : kTaskPanels;
    g.bits == 8 ? run_task<8>(g, at) : run_task<4>(g, at);
  });
}

void launch(KN_CPU, const PackQuantPanels& op, const Exec& ex) {
  const int64_t n = op.q.rows(), k = op.q.cols();
  const Groups groups = groups_of(k, op.group, op.bits);
  const uint32_t offset = op.bits == 8 ? 128 : 8;
  parallel_for(ex, (n + 15) / 16 * groups.count, [&](int64_t i) {
    const int64_t panel = i / groups.count, g = i % groups.count;
    unsigned char* to = op.dst.as<unsigned char>() + i * groups.bytes;
    auto code = [&](int64_t c, int64_t column) {
      const bool there = panel * 16 + c < n && column < k;
      const int q = there ? op.q.as<int8_t>()[(panel * 16 + c) * k + column] : 0;
      return (offset + static_cast<uint32_t>(q)) & (2 * offset - 1);
    };
    for (int64_t c = 0; c < 16; ++c) {
      const bool there = panel * 16 + c < n;
      const float s = there ? op.scale.as<float>()[(panel * 16 + c) * groups.count + g] : 0.0f;
      std::memcpy(to + c * 4, &s, 4);
    }
    to += 64;
    const int64_t step = 32 / op.bits;
    for (int64_t s = 0; s < op.group; s += step, to += 64)
      for (int64_t b = 0; b < 64; ++b) {
        const int64_t column = g * op.group + s + b % 4;
        uint32_t v = code(b / 4, column);
        if (op.bits == 4) v |= code(b / 4, column + 4) << 4;
        to[b] = static_cast<unsigned char>(v);
      }
  });
}

}  // namespace llmctl::kn
