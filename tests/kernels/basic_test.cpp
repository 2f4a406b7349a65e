// SPDX-License-Identifier: Apache-2.0
#include "kernels/basic.h"

#include "kernels/math.h"
#include "tests/kernels/gradient_check.h"

using namespace llmctl::kn;

TEST_CASE("convert f32 and bf16", "[basic]") {
  Buffer x(DType::f32, {3, 77}), y(DType::bf16, {3, 77}), z(DType::f32, {3, 77}), copy(DType::f32, {3, 77});
  x.fill(1, 10);
  x.set(0, 0x1p-130), x.set(1, -0.0), x.set(2, INFINITY);
  x.as<uint32_t>()[3] = 0x3f808000u;  // a tie: to even, down
  x.as<uint32_t>()[4] = 0x3f818000u;  // a tie: to even, up
  check_same_bits(Convert{.x = x, .y = y}, {&y});
  for (int64_t i = 0; i < x.size(); ++i) CHECK(y.as<uint16_t>()[i] == test_narrow(x.as<float>()[i]));
  check_same_bits(Convert{.x = y, .y = z}, {&z});
  for (int64_t i = 0; i < x.size(); ++i) CHECK(z.as<float>()[i] == test_widen(y.as<uint16_t>()[i]));
  check_same_bits(Convert{.x = x, .y = copy}, {&copy});
  CHECK(std::memcmp(x.view().data, copy.view().data, static_cast<size_t>(x.bytes())) == 0);
}

TEST_CASE("convert every f16", "[basic]") {
  Buffer x(DType::f16, {65535}), y(DType::f32, {65535});
  for (int i = 0; i < 65535; ++i) x.as<uint16_t>()[i] = static_cast<uint16_t>(i);
  check_same_bits(Convert{.x = x, .y = y}, {&y});
  int64_t wrong = 0;
  for (int i = 0; i < 65535; ++i) {
    const int exponent = i >> 10 & 31, fraction = i & 1023;
    double want = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
    if (exponent == 31) want = fraction ? NAN : INFINITY;
    const double got = static_cast<double>(y.as<float>()[i]);
    const bool same = std::isnan(want) ? std::isnan(got) : got == (i & 0x8000 ? -want : want);
    wrong += !same || (!std::isnan(want) && std::signbit(got) != ((i & 0x8000) != 0));
  }
  CHECK(wrong == 0);
}

TEST_CASE("convert says what it does not offer", "[basic]") {
  Buffer x(DType::f32, {4}), y(DType::i8, {4}), z(DType::bf16, {5});
  CHECK_THROWS_AS(run(Convert{.x = x, .y = y}, test_exec(Isa::portable)), llmctl::Error);
  CHECK_THROWS_AS(run(Convert{.x = x, .y = z}, test_exec(Isa::portable)), llmctl::Error);
}

TEST_CASE("whole numbers add up mod 2^64", "[basic]") {
  Buffer x(DType::i64, {40001}), y(DType::i64, {40001});
  std::vector<uint64_t> want;
  for (int64_t i = 0; i < x.size(); ++i) {
    const auto at = static_cast<uint64_t>(i);
    x.as<uint64_t>()[i] = 0x9E3779B97F4A7C15u * (at + 1), y.as<uint64_t>()[i] = 0xD1B54A32D192ED03u * (at + 7);
    want.push_back(x.as<uint64_t>()[i] + y.as<uint64_t>()[i]);
  }
  check_same_bits(AddWhole{.x = x, .y = y}, {}, {&y});
  const bool same = std::memcmp(want.data(), y.as<uint64_t>(), want.size() * 8) == 0;
  REQUIRE(same);
}

TEST_CASE("clear and gather", "[basic]") {
  Buffer x(DType::bf16, {500, 300}), index(DType::i32, {7}), y(DType::bf16, {7, 300});
  check_same_bits(Clear{.x = x}, {&x});
  for (int64_t i = 0; i < x.size(); ++i) REQUIRE(x.as<uint16_t>()[i] == 0);
  x.fill(1), index.fill_int(2, 0, 499);
  check_same_bits(GatherRows{.x = x, .index = index, .y = y}, {&y});
  for (int64_t r = 0; r < 7; ++r)
    for (int64_t i = 0; i < 300; ++i)
      REQUIRE(y.at(r * 300 + i) == x.at(static_cast<int64_t>(index.at(r)) * 300 + i));
}
