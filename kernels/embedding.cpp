// SPDX-License-Identifier: Apache-2.0
// Embeddings on the CPU. Forward: blocks of tokens. Backward: blocks of columns, each walking the
// tokens in order, so that no two tasks touch one element of grad.
#include "kernels/embedding.h"

#include "kernels/rows.h"
#include "kernels/simd.h"

namespace llmctl::kn {

#if KN_ONCE
void EmbedFwd::check() const {
  const int64_t t = out.rows(), d = out.cols();
  check_rows(kName, "out", out, t, d);
  check_vector(kName, "ids", ids, DType::i32, t);
  check_rows(kName, "table", table, table.rows(), d);
  llmctl::check(static_cast<bool>(positions) == static_cast<bool>(position_table), Code::bug, "[", kName,
                "] positions and position_table come together");
  if (!positions) return;
  check_vector(kName, "positions", positions, DType::i32, t);
  check_rows(kName, "position_table", position_table, position_table.rows(), d);
  llmctl::check(position_table.dtype == table.dtype, Code::bug, "[", kName, "] position_table is ",
                name_of(position_table.dtype), " and table is ", name_of(table.dtype), ": want the same");
}

void EmbedBwd::check() const {
  check_rows(kName, "dx", dx, dx.rows(), dx.cols());
  check_vector(kName, "ids", ids, DType::i32, dx.rows());
  llmctl::check(grad.cols() == dx.cols(), Code::bug, "[", kName, "] grad has ", grad.cols(),
                " columns and dx ", dx.cols());
  check_grad(kName, grad, grad.size(), overflow, parts);
}

void ToFixed::check() const {
  check_vector(kName, "x", x, DType::f32, x.size());
  check_vector(kName, "y", y, DType::i64, x.size());
}
#endif

namespace {
constexpr int64_t kColumnBlock = 64;

template <class T>
KN_INLINE F32 entry(const T* p, int64_t n, bool as_bf16) {
  const F32 x = load_row(p, n);
  return as_bf16 ? from_bits(shl<16>(round_bf16(x))) : x;
}

}  // namespace

void launch(KN_CPU, const EmbedFwd& a, const Exec& ex) {
  const int64_t t = a.out.rows(), d = a.out.cols();
  const int32_t *ids = a.ids.as<int32_t>(), *positions = a.positions.as<int32_t>();
  by_dtype(a.table, [&](auto* table) {
    by_dtype(a.out, [&](auto* out) {
      const auto* position_table = static_cast<decltype(table)>(a.position_table.data);
      for_blocks(ex, t, rows_per_task(d), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const auto* word = table + ids[r] * d;
          const auto* place = positions ? position_table + positions[r] * d : nullptr;
          for_lanes(d, [&](int64_t i, int64_t n) {
            const F32 x = entry(word + i, n, a.as_bf16);
            store_row(out + r * d + i, place ? add(x, entry(place + i, n, a.as_bf16)) : x, n);
          });
        }
      });
    });
  });
}

void launch(KN_CPU, const EmbedBwd& a, const Exec& ex) {
  const int64_t t = a.dx.rows(), d = a.dx.cols();
  const int32_t* ids = a.ids.as<int32_t>();
  by_dtype(a.dx, [&](auto* dx) {
    by_grad(a.grad, [&](auto* grad) {
      for_blocks(ex, d, kColumnBlock, [&](int64_t begin, int64_t end) {
        FixedAdder adder = fixed_adder(a.parts);
        for (int64_t r = 0; r < t; ++r) {
          const auto* from = dx + r * d + begin;
          auto* to = grad + ids[r] * d + begin;
          for_lanes(end - begin,
                    [&](int64_t i, int64_t n) { add_grad(adder, to + i, load_row(from + i, n), n); });
        }
        if (refused(adder)) raise_flag(a.overflow.as<int32_t>());
      });
    });
  });
}

void launch(KN_CPU, const ToFixed& a, const Exec& ex) {
  const float* x = a.x.as<float>();
  int64_t* y = a.y.as<int64_t>();
  for_blocks(ex, a.x.size(), 1 << 16, [&](int64_t begin, int64_t end) {
    FixedAdder adder = fixed_adder(1);
    for_lanes(end - begin, [&](int64_t i, int64_t n) {
      for (int64_t j = 0; j < n; ++j) y[begin + i + j] = 0;
      add_fixed(adder, y + begin + i, load(x + begin + i, n), n);
    });
  });
}

}  // namespace llmctl::kn
