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
  if (!by_id) return;
  check_vector(kName, "by_id", by_id, DType::i32, dx.rows());
  check_vector(kName, "overflow", overflow, DType::i32, 1);
  llmctl::check(grad.dtype == DType::f32, Code::bug, "[", kName, "] by_id wants grad in f32");
}
#endif

namespace {
constexpr int64_t kColumnBlock = 64;

template <class T>
KN_INLINE F32 entry(const T* p, int64_t n, bool as_bf16) {
  const F32 x = load_row(p, n);
  return as_bf16 ? from_bits(shl<16>(round_bf16(x))) : x;
}

// Columns [begin, end) of every row that occurs.
template <class T>
void sum_rows(const EmbedBwd& a, const T* dx, int64_t begin, int64_t end) {
  const int64_t t = a.dx.rows(), d = a.dx.cols();
  const int32_t *ids = a.ids.as<int32_t>(), *order = a.by_id.as<int32_t>();
  FixedAdder adder = fixed_adder(a.parts);
  for (int64_t r = 0; r < t;) {
    const int32_t id = ids[order[r]];
    float* row = a.grad.as<float>() + id * d + begin;
    int64_t sum[kColumnBlock] = {};
    for_lanes(end - begin, [&](int64_t i, int64_t n) { add_fixed(adder, sum + i, load(row + i, n)); });
    for (; r < t && ids[order[r]] == id; ++r)
      for_lanes(end - begin, [&](int64_t i, int64_t n) {
        add_fixed(adder, sum + i, load_row(dx + order[r] * d + begin + i, n));
      });
    for_lanes(end - begin, [&](int64_t i, int64_t n) { store(row + i, load_fixed(sum + i), n); });
  }
  if (refused(adder)) raise_flag(a.overflow.as<int32_t>());
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
  if (a.by_id)
    return by_dtype(a.dx, [&](auto* dx) {
      for_blocks(ex, d, kColumnBlock, [&](int64_t begin, int64_t end) { sum_rows(a, dx, begin, end); });
    });
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

}  // namespace llmctl::kn
