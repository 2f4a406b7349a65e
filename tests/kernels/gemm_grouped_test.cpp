// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm_grouped.h"

#include "tests/kernels/op_check.h"

using namespace llmctl::kn;

namespace {

struct Case {
  DType dtype;
  int64_t k, n;
  Leaves leaves;
  Bf16Order order;
};
const Case kCases[] = {{DType::f32, 37, 50, leaves_of(37), Bf16Order::pair},
                       {DType::bf16, 64, 96, leaves_of(64, 2), Bf16Order::pair},
                       {DType::bf16, 45, 17, leaves_of(45), Bf16Order::pair},
                       {DType::bf16, 160, 70, leaves_of(160, 4), Bf16Order::amx32}};
// Runs without rows first, in the middle and last; of few rows, and of more than a task takes.
const int64_t kRows[] = {0, 1, 3, 0, 0, 130, 9, 1, 260, 0};

}  // namespace

TEST_CASE("grouped products have the bits of each alone", "[gemm][experts]") {
  for (const Case& c : kCases) {
    INFO(name_of(c.dtype) << " " << c.k << " to " << c.n << " " << name_of(c.order));
    const int64_t parts = std::size(kRows);
    Buffer starts(DType::i32, {parts + 1});
    starts.set(0, 0);
    for (int64_t e = 0; e < parts; ++e) starts.set(e + 1, starts.at(e) + static_cast<double>(kRows[e]));
    const auto rows = static_cast<int64_t>(starts.at(parts));
    Buffer x(c.dtype, {rows, c.k}), y(c.dtype, {rows, c.n}), want(c.dtype, {rows, c.n});
    x.fill(1);
    const Exec ex = test_exec(supported_isas()[0], 2);
    std::vector<Buffer> panels;
    std::vector<View> views;
    for (int64_t e = 0; e < parts; ++e) {
      Buffer w(DType::f32, {c.n, c.k});
      w.fill(static_cast<uint64_t>(10 + e));
      panels.emplace_back(c.dtype, std::initializer_list<int64_t>{panel_elements(c.dtype, c.k, c.n)});
      run(PackPanels{.src = w, .panels = panels.back(), .panels_t = {}}, ex);
      views.push_back(panels.back());
    }
    const GroupedGemm op{.x = x, .w = views.data(), .starts = starts, .y = y, .n = c.n, .leaves = c.leaves, .order = c.order};
    check_same_bits(op, {&y});
    for (int64_t e = 0; e < parts; ++e) {
      const auto begin = static_cast<int64_t>(starts.at(e));
      Gemm one{.x = View(x.as<char>() + begin * c.k * size_of(c.dtype), c.dtype, {kRows[e], c.k}), .w = views[static_cast<size_t>(e)],
               .y = View(want.as<char>() + begin * c.n * size_of(c.dtype), c.dtype, {kRows[e], c.n}), .n = c.n,
               .leaves = c.leaves};
      one.order = c.order;
      if (kRows[e] > 0) run(one, ex);
    }
    CHECK(std::memcmp(y.as<char>(), want.as<char>(), static_cast<size_t>(y.bytes())) == 0);
  }
}
