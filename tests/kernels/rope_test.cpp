// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "kernels/attention.h"
#include "tests/kernels/op_check.h"

using namespace llmctl;
using namespace llmctl::kn;

namespace {

struct Case {
  int64_t tokens, heads, rotated, dim;
  Buffer x, y, positions, cos, sin;
  Case(DType dtype, int64_t t, int64_t h, int64_t r, int64_t d)
      : tokens(t),
        heads(h),
        rotated(r),
        dim(d),
        x(dtype, {t, h, d}),
        y(dtype, {t, h, d}),
        positions(DType::i32, {t}),
        cos(DType::f32, {50, d / 2}),
        sin(DType::f32, {50, d / 2}) {
    x.fill(1);
    positions.fill_int(2, 0, 49);
    for (int64_t i = 0; i < cos.size(); ++i) {
      const double angle = test_normal(3, static_cast<uint64_t>(i));
      cos.set(i, std::cos(angle));
      sin.set(i, std::sin(angle));
    }
  }
  Rope op(bool inverse = false) const {
    return {.x = x,
            .y = y,
            .positions = positions,
            .cos = cos,
            .sin = sin,
            .rotated = rotated,
            .inverse = inverse};
  }
  std::vector<double> expected(bool inverse) const {
    std::vector<double> want(static_cast<size_t>(x.size()));
    const int64_t half = dim / 2;
    for (int64_t i = 0; i < x.size(); ++i) {
      const int64_t t = i / dim / heads, head = i / dim % heads, e = i % dim;
      const int64_t at = static_cast<int64_t>(positions.at(t)) * half + e % half;
      const double s = inverse ? -sin.at(at) : sin.at(at);
      const double other = e < half ? -x.at(i + half) : x.at(i - half);
      want[static_cast<size_t>(i)] = head < rotated ? x.at(i) * cos.at(at) + other * s : x.at(i);
    }
    return want;
  }
};

std::string bytes_of(const Buffer& b) {
  return {b.as<char>(), static_cast<size_t>(b.bytes())};
}

}  // namespace

TEST_CASE("rope rotates halves, copies the other heads, and works in place", "[rope]") {
  for (DType dtype : {DType::f32, DType::bf16})
    for (auto [t, h, r, d] :
         {std::array<int64_t, 4>{1, 3, 2, 8}, {70, 4, 3, 64}, {5, 2, 2, 80}, {33, 6, 5, 6}})
      for (bool inverse : {false, true}) {
        CAPTURE(name_of(dtype), t, h, d, inverse);
        Case c(dtype, t, h, r, d);
        check_same_bits(c.op(inverse), {&c.y});
        check_close(c.y, c.expected(inverse), dtype == DType::f32 ? 2e-7 : 4e-3);
        Rope in_place = c.op(inverse);
        in_place.y = c.x;
        check_same_bits(in_place, {}, {&c.x});
        const bool same = bytes_of(c.x) == bytes_of(c.y);
        REQUIRE(same);
      }
}

TEST_CASE("rope by position 0 of a zero angle changes nothing, and inverse undoes it", "[rope]") {
  Case c(DType::f32, 20, 4, 4, 32);
  const std::string before = bytes_of(c.x);
  std::vector<double> values(static_cast<size_t>(c.x.size()));
  for (int64_t i = 0; i < c.x.size(); ++i) values[static_cast<size_t>(i)] = c.x.at(i);
  const Exec ex = test_exec(supported_isas().front());
  Rope there = c.op();
  run(there, ex);
  Rope back = c.op(true);
  back.x = c.y;
  run(back, ex);
  check_close(c.y, values, 1e-6);
  for (int64_t i = 0; i < c.cos.size(); ++i) c.cos.set(i, 1), c.sin.set(i, 0);
  run(there, ex);
  const bool same = bytes_of(c.y) == before;
  REQUIRE(same);
}

TEST_CASE("rope refuses odd heads and short tables", "[rope]") {
  Case c(DType::f32, 2, 2, 1, 8);
  const Exec ex = test_exec(supported_isas().front());
  Rope r = c.op();
  r.rotated = 3;
  REQUIRE_THROWS_AS(run(r, ex), Error);
  r = c.op();
  r.cos.dim[1] = 3;
  REQUIRE_THROWS_AS(run(r, ex), Error);
}
