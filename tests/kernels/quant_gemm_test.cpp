// SPDX-License-Identifier: Apache-2.0
// QuantizeRows, PackQuantPanels and QuantGemm against the scalar definition, bit for bit.
#include "kernels/quant_gemm.h"

#include "tests/kernels/op_check.h"

using namespace llmctl;
using namespace llmctl::kn;

namespace {

int64_t groups_of(int64_t k, int64_t group) { return (k + group - 1) / group; }

struct Problem {
  int bits;
  int64_t m, k, n, group;
  Buffer x, q, scale, weight, weight_scale, panels;

  Problem(int bits_, int64_t m_, int64_t k_, int64_t n_, int64_t group_, bool extreme = false)
      : bits(bits_), m(m_), k(k_), n(n_), group(group_), x(DType::f32, {m, k}), q(DType::i8, {m, k}),
        scale(DType::f32, {m, groups_of(k, group)}), weight(DType::i8, {n, k}),
        weight_scale(DType::f32, {n, groups_of(k, group)}),
        panels(DType::u8, {quant_panel_bytes(bits, n, k, group)}) {
    x.fill(1);
    weight_scale.fill(3, 0.01);
    const int top = bits == 8 ? 127 : 7, low = bits == 8 ? -127 : -8;
    weight.fill_int(2, low, top);
    run(QuantizeRows{.x = x, .q = q, .scale = scale, .group = group}, test_exec(supported_isas()[0]));
    if (extreme)  // every product at its largest: what a saturating instruction would get wrong
      for (int64_t i = 0; i < m * k; ++i) q.set(i, i % 3 == 2 ? -127 : 127);
    if (extreme)
      for (int64_t i = 0; i < n * k; ++i) weight.set(i, i % 5 == 4 ? low : top);
  }
  QuantGemm op(const Buffer& y) const {
    return {.q = q, .scale = scale, .w = panels, .y = y, .bits = bits, .n = n, .group = group};
  }
  float want(int64_t row, int64_t column) const {
    float acc = 0;
    for (int64_t g = 0; g < groups_of(k, group); ++g) {
      int32_t dot = 0;
      for (int64_t i = g * group; i < k && i < (g + 1) * group; ++i)
        dot += q.as<int8_t>()[row * k + i] * weight.as<int8_t>()[column * k + i];
      const float t = static_cast<float>(dot) * scale.as<float>()[row * groups_of(k, group) + g];
      const float scaled = t * weight_scale.as<float>()[column * groups_of(k, group) + g];
      acc = acc + scaled;
    }
    return acc;
  }
};

void require_definition(Problem& p) {
  INFO(p.bits << " bits, " << p.m << " x " << p.k << " x " << p.n << ", group " << p.group);
  check_same_bits(PackQuantPanels{.q = p.weight, .scale = p.weight_scale, .dst = p.panels, .bits = p.bits, .group = p.group},
                  {&p.panels});
  Buffer y(DType::f32, {p.m, p.n});
  check_same_bits(p.op(y), {&y});
  for (int64_t i = 0; i < p.m; ++i)
    for (int64_t j = 0; j < p.n; ++j) {
      const float want = p.want(i, j), got = y.as<float>()[i * p.n + j];
      if (std::memcmp(&want, &got, 4) != 0) {
        CAPTURE(i, j, want, got);
        FAIL("not the documented order");
      }
    }
}

}  // namespace

TEST_CASE("quant_gemm is the scalar definition", "[kernels][quant]") {
  for (int bits : {8, 4}) {
    for (int64_t k : {1, 7, 33, 172})
      for (int64_t n : {5, 17, 230})
        for (int64_t m : {1, 2, 3, 4, 5, 6, 7, 19}) {
          Problem p(bits, m, k, n, 32);
          require_definition(p);
        }
    Problem wide(bits, 137, 300, 210, 128);
    require_definition(wide);
    Problem extreme(bits, 9, 515, 50, 256, true);
    require_definition(extreme);
  }
}

TEST_CASE("quant_gemm adds bias and residual in place", "[kernels][quant]") {
  Problem p(4, 11, 160, 37, 64);
  require_definition(p);
  Buffer y(DType::bf16, {p.m, p.n}), bias(DType::bf16, {p.n});
  y.fill(5), bias.fill(6);
  std::vector<double> residual;
  for (int64_t i = 0; i < y.size(); ++i) residual.push_back(y.at(i));
  QuantGemm op = p.op(y);
  op.bias = bias, op.residual = y;
  check_same_bits(op, {}, {&y});
  for (int64_t i = 0; i < y.size(); ++i) {
    const float b = static_cast<float>(bias.at(i % p.n)), r = static_cast<float>(residual[static_cast<size_t>(i)]);
    REQUIRE(y.as<bf16_t>()[i] == test_narrow(p.want(i / p.n, i % p.n) + b + r));
  }
}

TEST_CASE("quantize_rows: 127 at the largest, nearest even, zero groups", "[kernels][quant]") {
  for (DType dtype : {DType::f32, DType::bf16}) {
    const int64_t m = 5, k = 171, group = 64, groups = 3;
    Buffer x(dtype, {m, k}), q(DType::i8, {m, k}), scale(DType::f32, {m, groups});
    x.fill(7);
    for (int64_t i = 0; i < 64; ++i) x.set(i, 0.0);                      // an all-zero group
    for (int64_t i = 64; i < 128; ++i) x.set(i, i % 2 ? 1e-38 : -2e-38);  // amax / 127 is denormal
    for (int64_t i = 0; i < 43; ++i) x.set(128 + i, i == 0 ? -127.0 : static_cast<double>(i) + 0.5);  // ties
    check_same_bits(QuantizeRows{.x = x, .q = q, .scale = scale, .group = group}, {&q, &scale});
    REQUIRE(scale.at(0) == 0);
    REQUIRE(scale.at(1) == 0);
    for (int64_t i = 0; i < 128; ++i) REQUIRE(q.at(i) == 0);
    REQUIRE(scale.at(2) == 1);
    REQUIRE(q.at(128) == -127);
    for (int64_t i = 1; i < 43; ++i) REQUIRE(q.at(128 + i) == static_cast<double>(i + i % 2));
    for (int64_t r = 1; r < m; ++r)
      for (int64_t g = 0; g < groups; ++g) {
        float top = 0;
        for (int64_t i = g * group; i < k && i < (g + 1) * group; ++i)
          top = std::max(top, static_cast<float>(std::fabs(x.at(r * k + i))));
        const float s = top / 127.0f;
        REQUIRE(scale.as<float>()[r * groups + g] == s);
        for (int64_t i = g * group; i < k && i < (g + 1) * group; ++i)
          REQUIRE(q.at(r * k + i) == static_cast<double>(std::nearbyint(static_cast<float>(x.at(r * k + i)) / s)));
      }
  }
}

TEST_CASE("quant_gemm refuses shapes that disagree", "[kernels][quant]") {
  Problem p(8, 2, 64, 16, 32);
  Buffer y(DType::f32, {2, 16});
  REQUIRE_NOTHROW(p.op(y).check());
  QuantGemm bad = p.op(y);
  bad.bits = 4;
  REQUIRE_THROWS_AS(bad.check(), Error);
  bad = p.op(y), bad.group = 48;
  REQUIRE_THROWS_AS(bad.check(), Error);
  bad = p.op(y), bad.n = 40;
  REQUIRE_THROWS_AS(bad.check(), Error);
}
