// SPDX-License-Identifier: Apache-2.0
#include "kernels/tree_sum.h"

#include "kernels/gemm.h"
#include "tests/kernels/gradient_check.h"

using namespace llmctl::kn;

// A product whose leaves lie with 2, 4 or 8 ranks has the bits of the product that one computes.
TEST_CASE("a leaf tree split over ranks", "[tree_sum]") {
  const auto [dtype, ranks, parts] = GENERATE(table<DType, int, int>({{DType::f32, 2, 1}, {DType::f32, 8, 1}, {DType::bf16, 2, 3},
                                                                     {DType::bf16, 4, 2}, {DType::bf16, 8, 1}}));
  const int64_t m = 37, n = 75, width = 512, k = parts * width;
  const int count = 8;
  CAPTURE(name_of(dtype), ranks, parts);
  Buffer x(dtype, {m, k}), w(dtype, {n, k}), bias(DType::f32, {n}), y(dtype, {m, n}), want(dtype, {m, n});
  Buffer residual(dtype, {m, n}), roots(DType::f32, {ranks, m, n});
  x.fill(1), w.fill(2), bias.fill(3), residual.fill(4);
  const Exec ex = test_exec(supported_isas().front());
  const auto product = [&](const Buffer& a, const Buffer& b, const View& to, const Leaves& leaves) {
    Buffer panels(dtype, {panel_elements(dtype, b.view().cols(), n)});
    run(PackPanels{.src = b, .panels = panels}, ex);
    Gemm g{.x = a, .w = panels, .y = to, .n = n, .leaves = leaves};
    if (to.data == want.view().data) g.bias = bias, g.residual = residual;
    run(g, ex);
  };
  Leaves leaves{count, parts, {}};
  for (int p = 0; p < parts; ++p) leaves.width[p] = width;
  product(x, w, want, leaves);
  for (int r = 0; r < ranks; ++r) {
    const int64_t slice = width / ranks;
    Buffer xr(dtype, {m, parts * slice}), wr(dtype, {n, parts * slice});
    const auto take = [&](const Buffer& from, const Buffer& to) {
      const int64_t size = size_of(dtype);
      for (int64_t row = 0; row < from.view().rows(); ++row)
        for (int64_t p = 0; p < parts; ++p)
          std::memcpy(to.view().as<char>() + (row * parts + p) * slice * size,
                      from.view().as<char>() + (row * k + p * width + r * slice) * size, static_cast<size_t>(slice * size));
    };
    take(x, xr), take(w, wr);
    Leaves mine{count / ranks, parts, {}};
    for (int p = 0; p < parts; ++p) mine.width[p] = slice;
    product(xr, wr, View(roots.as<float>() + r * m * n, DType::f32, {m, n}), mine);
  }
  check_same_bits(TreeSum{.roots = roots, .bias = bias, .residual = residual, .y = y}, {&y});
  CHECK(std::memcmp(y.view().data, want.view().data, static_cast<size_t>(y.bytes())) == 0);
}

TEST_CASE("tree_sum refuses what is not a tree", "[tree_sum]") {
  Buffer roots(DType::f32, {3, 2, 4}), y(DType::f32, {2, 4});
  CHECK_THROWS_AS(run(TreeSum{.roots = roots, .y = y}, test_exec(supported_isas().front())), llmctl::Error);
}
