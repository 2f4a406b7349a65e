// SPDX-License-Identifier: Apache-2.0
// The router on the CPU: a task is a few rows.
#include "kernels/router.h"

#include "kernels/rows.h"
#include "kernels/simd.h"

namespace llmctl::kn {

#if KN_ONCE
namespace {
void check_routing(const char* who, const View& logits, const View& index) {
  check(logits.dtype == DType::f32, Code::bug, "[", who, "] logits are ", name_of(logits.dtype), ": want f32");
  check(logits.cols() >= 1 && logits.cols() <= kMaxExperts, Code::bug, "[", who, "] ", logits.cols(),
        " experts, want 1..", kMaxExperts);
  check(index.dtype == DType::i32 && index.rows() == logits.rows() && index.cols() <= logits.cols(), Code::bug, "[",
        who, "] index is (", index.rows(), ",", index.cols(), ") and logits (", logits.rows(), ",", logits.cols(), ")");
}
}  // namespace

void RouterFwd::check() const {
  check_routing(kName, logits, index);
  check_vector(kName, "weight", weight, DType::f32, index.size());
}

void RouterBwd::check() const {
  check_routing(kName, logits, index);
  check_vector(kName, "weight", weight, DType::f32, index.size());
  check_vector(kName, "dweight", dweight, DType::f32, index.size());
  check_rows(kName, "dlogits", dlogits, logits.rows(), logits.cols());
  if (counts) check_vector(kName, "counts", counts, DType::i64, logits.cols());
}

void RouterStats::check() const {
  check_routing(kName, logits, index);
  check_vector(kName, "stats", stats, DType::i64, 2 * logits.cols() + 1);
}
#endif

namespace {

struct Softmax {
  float max, sum;
};

KN_INLINE F32 lanes_of(const float* x, int64_t n) { return keep(load(x, n), n, set1(-math::kInfinity)); }

Softmax softmax_of(const float* x, int64_t experts) {
  F32 most = set1(-math::kInfinity), sum = zero();
  for_lanes(experts, [&](int64_t i, int64_t n) { most = max(lanes_of(x + i, n), most); });
  const float top = max16(most);
  for_lanes(experts, [&](int64_t i, int64_t n) { sum = add(sum, exp(sub(lanes_of(x + i, n), set1(top)))); });
  return {top, sum16(sum)};
}

// The k largest, ties to the lower index, in ascending order. Any k of them when some are not numbers.
void choose(const float* x, int64_t experts, int64_t k, int32_t* index) {
  bool taken[kMaxExperts] = {};
  for (int64_t j = 0; j < k; ++j) {
    int64_t best = -1;
    for (int64_t e = 0; e < experts; ++e)
      if (!taken[e] && (best < 0 || x[e] > x[best])) best = e;
    taken[best] = true;
  }
  for (int64_t e = 0; e < experts; ++e)
    if (taken[e]) *index++ = static_cast<int32_t>(e);
}

float probability(const float* x, int32_t expert, const Softmax& s) { return exp(x[expert] - s.max) / s.sum; }

// The sum that renormalises.
float chosen_sum(const float* x, const int32_t* index, int64_t k, const Softmax& s) {
  float sum = 0;
  for (int64_t j = 0; j < k; ++j) sum += probability(x, index[j], s);
  return sum;
}

void route_row(const RouterFwd& a, int64_t row) {
  const int64_t experts = a.logits.cols(), k = a.index.cols();
  const float* x = a.logits.as<float>() + row * experts;
  int32_t* index = a.index.as<int32_t>() + row * k;
  float* weight = a.weight.as<float>() + row * k;
  const Softmax s = softmax_of(x, experts);
  choose(x, experts, k, index);
  const float by = a.renormalise ? chosen_sum(x, index, k, s) : 1.0f;
  for (int64_t j = 0; j < k; ++j) {
    const float p = probability(x, index[j], s);
    weight[j] = a.renormalise ? p / by : p;
  }
}

// g of the header, over all experts: `pressure` is balance * counts.
void weight_slopes(const RouterBwd& a, int64_t row, const Softmax& s, const float* pressure, float* g) {
  const int64_t experts = a.logits.cols(), k = a.index.cols();
  const int32_t* index = a.index.as<int32_t>() + row * k;
  const float *weight = a.weight.as<float>() + row * k, *dweight = a.dweight.as<float>() + row * k;
  std::memcpy(g, pressure, static_cast<size_t>(experts) * 4);
  float dot = 0, by = 1.0f;
  if (a.renormalise) {
    by = chosen_sum(a.logits.as<float>() + row * experts, index, k, s);
    for (int64_t j = 0; j < k; ++j) dot = math::fma(dweight[j], weight[j], dot);
  }
  for (int64_t j = 0; j < k; ++j) g[index[j]] += a.renormalise ? (dweight[j] - dot) / by : dweight[j];
}

template <class D>
void backward_row(const RouterBwd& a, int64_t row, const float* pressure, D* dx) {
  const int64_t experts = a.logits.cols();
  const float* x = a.logits.as<float>() + row * experts;
  const Softmax s = softmax_of(x, experts);
  alignas(64) float g[kMaxExperts];
  weight_slopes(a, row, s, pressure, g);
  const auto p = [&](int64_t i, int64_t n) { return div(exp(sub(lanes_of(x + i, n), set1(s.max))), set1(s.sum)); };
  F32 dots = zero();
  for_lanes(experts, [&](int64_t i, int64_t n) { dots = fma(load(g + i, n), p(i, n), dots); });
  const F32 mean = set1(sum16(dots)), z = set1(a.z * (s.max + log(s.sum)));
  for_lanes(experts, [&](int64_t i, int64_t n) {
    store_row(dx + row * experts + i, mul(p(i, n), add(sub(load(g + i, n), mean), z)), n);
  });
}

struct Counted {
  int64_t sums[2 * kMaxExperts + 1];
};

void count_row(const RouterStats& a, int64_t row, Counted& to) {
  const int64_t experts = a.logits.cols(), k = a.index.cols();
  const float* x = a.logits.as<float>() + row * experts;
  for (int64_t j = 0; j < k; ++j) ++to.sums[a.index.as<int32_t>()[row * k + j]];
  const Softmax s = softmax_of(x, experts);
  FixedAdder adder = fixed_adder(1);  // what does not fit is not finite, and so is the loss
  for_lanes(experts, [&](int64_t i, int64_t n) {
    add_fixed(adder, to.sums + experts + i, div(exp(sub(lanes_of(x + i, n), set1(s.max))), set1(s.sum)), n);
  });
  const float lse = s.max + log(s.sum), square = lse * lse;
  if (square < 0x1p40f) to.sums[2 * experts] += to_fixed(square * 0x1p-20f);
}

}  // namespace

void launch(KN_CPU, const RouterFwd& a, const Exec& ex) {
  for_blocks(ex, a.logits.rows(), rows_per_task(a.logits.cols() * a.index.cols()), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) route_row(a, r);
  });
}

void launch(KN_CPU, const RouterBwd& a, const Exec& ex) {
  const int64_t experts = a.logits.cols();
  alignas(64) float pressure[kMaxExperts] = {};
  if (a.counts)
    for (int64_t e = 0; e < experts; ++e) pressure[e] = a.balance * static_cast<float>(a.counts.as<int64_t>()[e]);
  by_dtype(a.dlogits, [&](auto* dx) {
    for_blocks(ex, a.logits.rows(), rows_per_task(experts), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) backward_row(a, r, pressure, dx);
    });
  });
}

void launch(KN_CPU, const RouterStats& a, const Exec& ex) {
  const int64_t width = 2 * a.logits.cols() + 1;
  int64_t* stats = a.stats.as<int64_t>();
  for_blocks(ex, a.logits.rows(), rows_per_task(a.logits.cols()), [&](int64_t begin, int64_t end) {
    Counted counted = {};
    for (int64_t r = begin; r < end; ++r) count_row(a, r, counted);
    for (int64_t i = 0; i < width; ++i) __atomic_fetch_add(stats + i, counted.sums[i], __ATOMIC_RELAXED);
  });
}

}  // namespace llmctl::kn
