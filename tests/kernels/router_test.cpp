// SPDX-License-Identifier: Apache-2.0
#include "kernels/router.h"

#include <algorithm>
#include <numeric>

#include "tests/kernels/gradient_check.h"

using namespace llmctl::kn;

namespace {

struct Case {
  int64_t tokens, experts, k;
  bool renormalise;
};
const Case kCases[] = {{9, 8, 2, true}, {1, 4, 4, true}, {33, 37, 5, false}, {70, 128, 8, true}, {5, 1, 1, false},
                       {200, 60, 4, false}};

Values softmax(const Values& x, size_t experts) {
  Values p(x.size());
  for (size_t at = 0; at < x.size(); at += experts) {
    double sum = 0;
    for (size_t e = 0; e < experts; ++e) sum += std::exp(x[at + e]);
    for (size_t e = 0; e < experts; ++e) p[at + e] = std::exp(x[at + e]) / sum;
  }
  return p;
}

double log_sum_exp(const Values& x, size_t at, size_t experts) {
  double sum = 0;
  for (size_t e = 0; e < experts; ++e) sum += std::exp(x[at + e]);
  return std::log(sum);
}

// Weights of chosen experts, in f64.
Values weights_of(const Case& c, const Values& x, const Buffer& index) {
  const Values p = softmax(x, static_cast<size_t>(c.experts));
  Values w;
  for (int64_t t = 0; t < c.tokens; ++t) {
    double sum = 0;
    for (int64_t j = 0; j < c.k; ++j) sum += p[static_cast<size_t>(t * c.experts + index.as<int32_t>()[t * c.k + j])];
    for (int64_t j = 0; j < c.k; ++j)
      w.push_back(p[static_cast<size_t>(t * c.experts + index.as<int32_t>()[t * c.k + j])] / (c.renormalise ? sum : 1));
  }
  return w;
}

std::vector<int32_t> chosen(const Buffer& logits, int64_t row, int64_t experts, int64_t k) {
  std::vector<int32_t> order(static_cast<size_t>(experts));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits.at(row * experts + a) > logits.at(row * experts + b);
  });
  order.resize(static_cast<size_t>(k));
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace

TEST_CASE("router: the k largest in expert order, and their weights", "[router]") {
  for (const Case& c : kCases) {
    INFO(c.tokens << " tokens, " << c.k << " of " << c.experts);
    Buffer logits(DType::f32, {c.tokens, c.experts}), index(DType::i32, {c.tokens, c.k}), weight(DType::f32, {c.tokens, c.k});
    logits.fill_int(1, -6, 6);  // many ties
    for (int64_t i = 0; i < logits.size(); ++i) logits.set(i, logits.at(i) / 4);
    check_same_bits(RouterFwd{.logits = logits, .index = index, .weight = weight, .renormalise = c.renormalise},
                    {&index, &weight});
    for (int64_t t = 0; t < c.tokens; ++t) {
      const std::vector<int32_t> want = chosen(logits, t, c.experts, c.k);
      CHECK(std::equal(want.begin(), want.end(), index.as<int32_t>() + t * c.k));
    }
    check_close(weight, weights_of(c, values_of(logits), index), 1e-6);
  }
}

TEST_CASE("router: logits that are no numbers choose experts that are there", "[router]") {
  Buffer logits(DType::f32, {2, 5}), index(DType::i32, {2, 3}), weight(DType::f32, {2, 3});
  for (int64_t i = 0; i < 10; ++i) logits.set(i, std::nan(""));
  logits.set(7, INFINITY);
  run(RouterFwd{.logits = logits, .index = index, .weight = weight, .renormalise = true}, test_exec(supported_isas()[0]));
  for (int64_t t = 0; t < 2; ++t)
    for (int64_t j = 0; j < 3; ++j) {
      CHECK((index.at(t * 3 + j) >= 0 && index.at(t * 3 + j) < 5));
      if (j > 0) CHECK(index.at(t * 3 + j) > index.at(t * 3 + j - 1));
    }
}

TEST_CASE("router backward: weights, balance and z together against differences", "[router]") {
  for (const Case& c : kCases)
    for (DType dtype : {DType::f32, DType::bf16}) {
      INFO(c.tokens << " tokens, " << c.k << " of " << c.experts << " " << name_of(dtype));
      Buffer logits(DType::f32, {c.tokens, c.experts}), index(DType::i32, {c.tokens, c.k}), weight(DType::f32, {c.tokens, c.k});
      Buffer dweight(DType::f32, {c.tokens, c.k}), counts(DType::i64, {c.experts}), dlogits(dtype, {c.tokens, c.experts});
      logits.fill(1), dweight.fill(2), counts.fill_int(3, 0, 50);
      run(RouterFwd{.logits = logits, .index = index, .weight = weight, .renormalise = c.renormalise},
          test_exec(supported_isas()[0]));
      const float balance = 0.01f, z = 0.25f;  // of half the square
      check_same_bits(RouterBwd{.logits = logits, .index = index, .weight = weight, .dweight = dweight, .counts = counts,
                                .balance = balance, .z = z, .renormalise = c.renormalise, .dlogits = dlogits},
                      {&dlogits});
      const auto experts = static_cast<size_t>(c.experts);
      const auto loss = [&](const Values& x) {
        const Values w = weights_of(c, x, index), p = softmax(x, experts);
        double sum = 0;
        for (size_t i = 0; i < w.size(); ++i) sum += w[i] * dweight.at(static_cast<int64_t>(i));
        for (size_t i = 0; i < p.size(); ++i) sum += balance * counts.at(static_cast<int64_t>(i % experts)) * p[i];
        for (size_t at = 0; at < x.size(); at += experts) sum += 0.5 * z * std::pow(log_sum_exp(x, at, experts), 2);
        return Values{sum};
      };
      check_close(dlogits, gradient_by_differences(loss, values_of(logits), {1.0}), dtype == DType::f32 ? 1e-5 : 0.01);
    }
}

TEST_CASE("router statistics are sums that do not know their order", "[router]") {
  for (const Case& c : kCases) {
    INFO(c.tokens << " tokens, " << c.k << " of " << c.experts);
    Buffer logits(DType::f32, {c.tokens, c.experts}), index(DType::i32, {c.tokens, c.k}), weight(DType::f32, {c.tokens, c.k});
    Buffer stats(DType::i64, {2 * c.experts + 1});
    logits.fill(4, 2), stats.zero();
    run(RouterFwd{.logits = logits, .index = index, .weight = weight}, test_exec(supported_isas()[0]));
    check_same_bits(RouterStats{.logits = logits, .index = index, .stats = stats}, {}, {&stats});
    Values want(static_cast<size_t>(2 * c.experts + 1));
    const Values p = softmax(values_of(logits), static_cast<size_t>(c.experts));
    for (int64_t i = 0; i < index.size(); ++i) want[static_cast<size_t>(index.at(i))] += 1;
    for (size_t i = 0; i < p.size(); ++i) want[static_cast<size_t>(c.experts) + i % static_cast<size_t>(c.experts)] += p[i];
    for (int64_t t = 0; t < c.tokens; ++t)
      want.back() += std::pow(log_sum_exp(values_of(logits), static_cast<size_t>(t * c.experts), static_cast<size_t>(c.experts)), 2);
    Values got = values_of(stats);
    for (int64_t e = 0; e < c.experts; ++e) got[static_cast<size_t>(c.experts + e)] *= 0x1p-40;
    got.back() *= 0x1p-20;
    check_values(got, want, 1e-5);
    // In pieces, one after the other.
    Buffer pieces(DType::i64, {2 * c.experts + 1});
    pieces.zero();
    for (int64_t t = 0; t < c.tokens; ++t)
      run(RouterStats{.logits = View(logits.as<float>() + t * c.experts, DType::f32, {1, c.experts}),
                      .index = View(index.as<int32_t>() + t * c.k, DType::i32, {1, c.k}), .stats = pieces},
          test_exec(supported_isas()[0]));
    CHECK(values_of(pieces) == values_of(stats));
  }
}
