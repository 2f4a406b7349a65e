// SPDX-License-Identifier: Apache-2.0
#include "kernels/experts.h"

#include <algorithm>

#include "tests/kernels/gradient_check.h"

using namespace llmctl::kn;

namespace {

// k experts of each token, ascending.
void fill_routing(Buffer& index, int64_t experts) {
  const int64_t k = index.view().cols();
  for (int64_t t = 0; t < index.view().rows(); ++t) {
    const auto first = static_cast<int64_t>(test_bits(5, static_cast<uint64_t>(t)) % static_cast<uint64_t>(experts));
    std::vector<int64_t> chosen;
    for (int64_t j = 0; j < k; ++j) chosen.push_back((first + j * j) % experts);
    std::sort(chosen.begin(), chosen.end());
    for (int64_t j = 0; j < k; ++j) index.set(t * k + j, static_cast<double>(chosen[static_cast<size_t>(j)]));
  }
}

struct Case {
  int64_t tokens, experts, k, width;
  DType dtype;
  double bound;
};
const Case kCases[] = {{7, 5, 2, 37, DType::f32, 1e-6}, {1, 8, 1, 16, DType::f32, 1e-6}, {40, 11, 3, 64, DType::bf16, 0.01},
                       {0, 4, 2, 16, DType::f32, 1e-6}};

}  // namespace

TEST_CASE("rows sorted by expert, then token", "[experts]") {
  for (const Case& c : kCases) {
    INFO(c.tokens << " tokens, " << c.k << " of " << c.experts);
    const int64_t rows = c.tokens * c.k;
    Buffer index(DType::i32, {c.tokens, c.k}), starts(DType::i32, {c.experts + 1}), token(DType::i32, {rows});
    Buffer place(DType::i32, {c.tokens, c.k});
    fill_routing(index, c.experts);
    check_same_bits(SortByExpert{.index = index, .starts = starts, .token = token, .place = place},
                    {&starts, &token, &place});
    CHECK(starts.at(0) == 0);
    CHECK(starts.at(c.experts) == static_cast<double>(rows));
    std::vector<bool> seen(static_cast<size_t>(rows));
    for (int64_t i = 0; i < rows; ++i) {
      const auto row = static_cast<int64_t>(place.at(i)), expert = static_cast<int64_t>(index.at(i));
      CHECK(token.at(row) == static_cast<double>(i / c.k));
      CHECK((starts.at(expert) <= place.at(i) && place.at(i) < starts.at(expert + 1)));
      if (row > starts.at(expert)) CHECK(token.at(row - 1) < token.at(row));
      CHECK(!seen[static_cast<size_t>(row)]);
      seen[static_cast<size_t>(row)] = true;
    }
  }
}

TEST_CASE("experts combine, and the gradients of that", "[experts]") {
  for (const Case& c : kCases) {
    if (c.tokens == 0) continue;
    INFO(c.tokens << " tokens, " << c.k << " of " << c.experts << " " << name_of(c.dtype));
    const int64_t rows = c.tokens * c.k;
    Buffer index(DType::i32, {c.tokens, c.k}), starts(DType::i32, {c.experts + 1}), token(DType::i32, {rows});
    Buffer place(DType::i32, {c.tokens, c.k}), weight(DType::f32, {c.tokens, c.k});
    Buffer x(c.dtype, {rows, c.width}), residual(c.dtype, {c.tokens, c.width}), y(c.dtype, {c.tokens, c.width});
    fill_routing(index, c.experts);
    weight.fill(1), x.fill(2), residual.fill(3);
    run(SortByExpert{.index = index, .starts = starts, .token = token, .place = place}, test_exec(supported_isas()[0]));
    const auto combined = [&](const Values& from, const Values& by) {
      Values want(static_cast<size_t>(c.tokens * c.width));
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t d = 0; d < c.width; ++d)
          want[static_cast<size_t>(i / c.k * c.width + d)] +=
              by[static_cast<size_t>(i)] * from[static_cast<size_t>(place.at(i)) * static_cast<size_t>(c.width) + static_cast<size_t>(d)];
      return want;
    };
    check_same_bits(CombineExperts{.x = x, .place = place, .weight = weight, .residual = {}, .y = y}, {&y});
    check_close(y, combined(values_of(x), values_of(weight)), c.bound);
    check_same_bits(CombineExperts{.x = x, .place = place, .weight = {}, .residual = residual, .y = y}, {&y});
    Values want = combined(values_of(x), Values(static_cast<size_t>(rows), 1.0));
    for (size_t i = 0; i < want.size(); ++i) want[i] += residual.at(static_cast<int64_t>(i));
    check_close(y, want, c.bound);

    Buffer dy(c.dtype, {c.tokens, c.width}), dx(c.dtype, {rows, c.width}), dweight(DType::f32, {c.tokens, c.k});
    dy.fill(4);
    check_same_bits(CombineExpertsBwd{.dy = dy, .x = x, .place = place, .weight = weight, .dx = dx, .dweight = dweight},
                    {&dx, &dweight});
    check_close(dx, gradient_by_differences([&](const Values& v) { return combined(v, values_of(weight)); }, values_of(x),
                                            values_of(dy)), std::max(c.bound, 1e-5));
    check_close(dweight, gradient_by_differences([&](const Values& v) { return combined(values_of(x), v); },
                                                 values_of(weight), values_of(dy)), std::max(c.bound, 1e-5));
  }
}

TEST_CASE("a token's slots combine in expert order", "[experts]") {
  // 1 and 2^-24 twice: (1 + e) + e is 1, e + e + 1 is not.
  Buffer x(DType::f32, {3, 1}), place(DType::i32, {1, 3}), y(DType::f32, {1, 1});
  for (const bool last : {false, true}) {
    for (int64_t i = 0; i < 3; ++i) x.set(i, (last ? i == 2 : i == 0) ? 1.0 : 0x1p-24), place.set(i, static_cast<double>(i));
    run(CombineExperts{.x = x, .place = place, .weight = {}, .residual = {}, .y = y}, test_exec(supported_isas()[0]));
    CHECK((y.at(0) == 1.0) == !last);
  }
}

TEST_CASE("a shared expert's slot stands behind the others, and its gradient reaches the gate", "[experts]") {
  const int64_t tokens = 21, k = 3;
  Buffer place(DType::i32, {tokens, k}), weight(DType::f32, {tokens, k}), gate(DType::f32, {tokens, 1});
  Buffer place_all(DType::i32, {tokens, k + 1}), weight_all(DType::f32, {tokens, k + 1});
  place.fill_int(1, 0, tokens * k - 1), weight.fill(2), gate.fill(3, 2);
  check_same_bits(AddSharedSlot{.place = place, .weight = weight, .gate = gate, .place_all = place_all, .weight_all = weight_all},
                  {&place_all, &weight_all});
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t j = 0; j < k; ++j) {
      CHECK(place_all.at(t * (k + 1) + j) == place.at(t * k + j));
      CHECK(weight_all.at(t * (k + 1) + j) == weight.at(t * k + j));
    }
    CHECK(place_all.at(t * (k + 1) + k) == static_cast<double>(tokens * k + t));
    CHECK(weight_all.at(t * (k + 1) + k) == Approx(1 / (1 + std::exp(-gate.at(t)))).epsilon(1e-6));
  }
  for (DType dtype : {DType::f32, DType::bf16}) {
    Buffer dweight_all(DType::f32, {tokens, k + 1}), dweight(DType::f32, {tokens, k}), dgate(dtype, {tokens, 1});
    dweight_all.fill(4);
    check_same_bits(AddSharedSlotBwd{.weight_all = weight_all, .dweight_all = dweight_all, .dweight = dweight, .dgate = dgate},
                    {&dweight, &dgate});
    Values want;
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t j = 0; j < k; ++j) CHECK(dweight.at(t * k + j) == dweight_all.at(t * (k + 1) + j));
      const double s = 1 / (1 + std::exp(-gate.at(t)));
      want.push_back(dweight_all.at(t * (k + 1) + k) * s * (1 - s));
    }
    check_close(dgate, want, dtype == DType::f32 ? 1e-6 : 0.01);
  }
}
