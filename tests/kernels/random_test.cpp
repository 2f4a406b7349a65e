// SPDX-License-Identifier: Apache-2.0
#include "kernels/random.h"

#include "tests/kernels/op_check.h"

using namespace llmctl::kn;

namespace {
std::vector<uint32_t> words(const RandomWords& w) {
  return {w.word, w.word + 4};
}
}  // namespace

TEST_CASE("Philox gives Random123's known answers", "[random]") {
  CHECK(words(philox(0, 0, 0)) == std::vector<uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(words(philox(~0ull, ~0ull, ~0ull)) ==
        std::vector<uint32_t>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  // Digits of pi: counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0.
  CHECK(words(philox(0x299f31d0a4093822ull, 0x85a308d3243f6a88ull, 0x0370734413198a2eull)) ==
        std::vector<uint32_t>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("uniform numbers stay inside (0, 1)", "[random]") {
  CHECK(uniform_f32(0) == 0x1p-24f);
  CHECK(uniform_f32(~0u) == 1.0f - 0x1p-24f);
  CHECK(uniform_f64(0) == 0x1p-33);
  CHECK(uniform_f64(~0u) == 1.0 - 0x1p-33);
}

TEST_CASE("normal numbers have the moments of a normal", "[random]") {
  const RandomKey key{42, 3, 7};
  double sum = 0, square = 0, fourth = 0;
  const int n = 100000;
  for (int i = 0; i < n; ++i) {
    const double x = random_normal(key, static_cast<uint64_t>(i));
    sum += x, square += x * x, fourth += x * x * x * x;
  }
  CHECK(std::fabs(sum / n) < 0.015);
  CHECK(std::fabs(square / n - 1) < 0.02);
  CHECK(std::fabs(fourth / n - 3) < 0.15);
}

TEST_CASE("bounded integers are even", "[random]") {
  const RandomKey key{1, 2, 3};
  std::vector<int> count(6);
  for (uint64_t i = 0; i < 60000; ++i) ++count.at(random_below(key, i, 6));
  for (int c : count) CHECK(std::abs(c - 10000) < 400);
  // Nearly half of the words are rejected here, so the second draw is exercised too.
  const uint64_t n = (uint64_t{1} << 31) + 1;
  double sum = 0;
  for (uint64_t i = 0; i < 20000; ++i) {
    const uint64_t x = random_below(key, i, n);
    REQUIRE(x < n);
    sum += static_cast<double>(x) / static_cast<double>(n);
  }
  CHECK(std::fabs(sum / 20000 - 0.5) < 0.01);
  CHECK(random_below(key, 0, 1) == 0);
}

TEST_CASE("a permutation hits every number once and depends on its key", "[random]") {
  for (uint64_t n : {1u, 2u, 3u, 5u, 16u, 17u, 1000u, 4097u}) {
    const Permutation p({9, 1, 2}, n);
    std::vector<bool> seen(n);
    for (uint64_t i = 0; i < n; ++i) {
      const uint64_t at = p.at(i);
      REQUIRE(at < n);
      REQUIRE(!seen[at]);
      seen[at] = true;
    }
  }
  const Permutation a({9, 1, 2}, 1000), b({9, 2, 2}, 1000);
  int fixed = 0, same = 0;
  for (uint64_t i = 0; i < 1000; ++i) fixed += a.at(i) == i, same += a.at(i) == b.at(i);
  CHECK(fixed < 10);
  CHECK(same < 10);
}
