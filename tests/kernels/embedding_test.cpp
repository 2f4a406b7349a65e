// SPDX-License-Identifier: Apache-2.0
#include "kernels/embedding.h"

#include "kernels/fixed.h"
#include "tests/kernels/gradient_check.h"

using namespace llmctl::kn;

TEST_CASE("embedding forward", "[embedding]") {
  const int64_t t = 9, v = 13, p = 9, d = 70;
  for (DType table_type : {DType::f32, DType::bf16})
    for (DType out_type : {DType::f32, DType::bf16}) {
      Buffer ids(DType::i32, {t}), positions(DType::i32, {t}), out(out_type, {t, d});
      Buffer table(table_type, {v, d}), places(table_type, {p, d});
      ids.fill_int(1, 0, v - 1), positions.fill_int(2, 0, p - 1), table.fill(3), places.fill(4);
      for (bool with_positions : {false, true}) {
        const View none;
        check_same_bits(EmbedFwd{.ids = ids,
                                 .table = table,
                                 .positions = with_positions ? positions.view() : none,
                                 .position_table = with_positions ? places.view() : none,
                                 .out = out},
                        {&out});
        Values want(static_cast<size_t>(t * d));
        for (int64_t r = 0; r < t; ++r)
          for (int64_t i = 0; i < d; ++i) {
            const int64_t id = static_cast<int64_t>(ids.at(r)), at = static_cast<int64_t>(positions.at(r));
            want[static_cast<size_t>(r * d + i)] =
                table.at(id * d + i) + (with_positions ? places.at(at * d + i) : 0);
          }
        check_close(out, want, out_type == DType::f32 ? 1e-7 : 0.005);
      }
    }
}

TEST_CASE("embedding backward takes each occurrence as a part", "[embedding]") {
  const int64_t t = 41, v = 7, d = 83;
  for (DType dtype : {DType::f32, DType::bf16})
    for (DType kind : {DType::i64, DType::f32}) {
      Buffer ids(DType::i32, {t}), dx(dtype, {t, d}), grad(kind, {v, d}), overflow(DType::i32, {1});
      ids.fill_int(1, 0, v - 2), dx.fill(2), grad.zero(), overflow.zero();  // the last row stays untouched
      grad.set(0, 3);
      check_same_bits(EmbedBwd{.ids = ids, .dx = dx, .grad = grad, .parts = t, .overflow = overflow}, {},
                      {&grad, &overflow});
      Buffer exact(DType::i64, {v, d});
      Values want(static_cast<size_t>(v * d));
      exact.zero().set(0, 3);
      want[0] = kind == DType::i64 ? 0x1.8p-39 : 3;
      for (int64_t r = 0; r < t; ++r)
        for (int64_t i = 0; i < d; ++i) {
          const int64_t at = static_cast<int64_t>(ids.at(r)) * d + i;
          exact.as<int64_t>()[at] += std::llrint(std::ldexp(dx.at(r * d + i), 40));
          want[static_cast<size_t>(at)] += dx.at(r * d + i);
        }
      CHECK(overflow.at(0) == 0);
      check_values(gradient_values(grad), want, 1e-6);
      if (kind == DType::i64)
        CHECK(std::memcmp(grad.view().data, exact.view().data, static_cast<size_t>(grad.bytes())) == 0);
    }
}

TEST_CASE("tables in f32 stand for tables in bf16", "[embedding]") {
  const int64_t t = 9, v = 13, d = 70;
  Buffer ids(DType::i32, {t}), table(DType::f32, {v, d}), places(DType::f32, {v, d});
  Buffer rounded(DType::bf16, {v, d}), rounded_places(DType::bf16, {v, d});
  ids.fill_int(1, 0, v - 1), table.fill(3), places.fill(4);
  for (int64_t i = 0; i < v * d; ++i) rounded.set(i, table.at(i)), rounded_places.set(i, places.at(i));
  Buffer out(DType::f32, {t, d}), want(DType::f32, {t, d});
  EmbedFwd op{.ids = ids, .table = rounded, .positions = ids, .position_table = rounded_places, .out = want};
  check_same_bits(op, {&want});
  op.table = table, op.position_table = places, op.out = out, op.as_bf16 = true;
  check_same_bits(op, {&out});
  CHECK(std::memcmp(out.as<char>(), want.as<char>(), static_cast<size_t>(want.bytes())) == 0);
}

TEST_CASE("a sum that was stored as f32 is in fixed point what it was", "[embedding]") {
  const int64_t n = 1003;
  Buffer x(DType::f32, {n}), y(DType::i64, {n});
  std::vector<int64_t> want;
  for (int64_t i = 0; i < n; ++i) {
    const double g = test_normal(3, static_cast<uint64_t>(i)) * (i % 3 == 0 ? 300 : 1e-6);
    want.push_back(to_fixed(static_cast<float>(g)));
    x.as<float>()[i] = from_fixed(want.back());
  }
  check_same_bits(ToFixed{.x = x, .y = y}, {&y});
  CHECK(std::memcmp(y.as<char>(), want.data(), static_cast<size_t>(y.bytes())) == 0);
}

TEST_CASE("embedding backward refuses what is not finite", "[embedding]") {
  Buffer ids(DType::i32, {2}), dx(DType::f32, {2, 18}), grad(DType::i64, {3, 18}), overflow(DType::i32, {1});
  ids.zero(), dx.fill(1), grad.zero(), overflow.zero();
  dx.set(3, NAN);
  check_same_bits(EmbedBwd{.ids = ids, .dx = dx, .grad = grad, .parts = 1, .overflow = overflow}, {},
                  {&grad, &overflow});
  CHECK(overflow.at(0) == 1);
}
