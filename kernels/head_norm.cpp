// SPDX-License-Identifier: Apache-2.0
// RMSNorm of heads on the CPU: a task is a few heads; of a weight's gradient it is a block of columns.
#include "kernels/head_norm.h"

#include "kernels/norm_rows.h"
#include "kernels/simd.h"

namespace llmctl::kn {

#if KN_ONCE
namespace {
void check_heads(const char* who, const View& x, int64_t heads, int64_t kv_heads, const View& w_query, const View& w_key) {
  check(is_row_type(x) && x.rank == 3 && heads >= 1 && kv_heads >= 1 && x.dim[1] == heads + 2 * kv_heads, Code::bug, "[",
        who, "] x has ", x.dim[1], " heads: want ", heads, " + 2 x ", kv_heads);
  check_rows(who, "w_query", w_query, 1, x.cols());
  check_rows(who, "w_key", w_key, 1, x.cols());
  check(w_query.dtype == w_key.dtype, Code::bug, "[", who, "] w_query is ", name_of(w_query.dtype), " and w_key ",
        name_of(w_key.dtype));
}
}  // namespace

void HeadNormFwd::check() const {
  check_heads(kName, x, heads, kv_heads, w_query, w_key);
  check_rows(kName, "y", y, x.rows(), x.cols());
  llmctl::check(y.dtype == x.dtype, Code::bug, "[", kName, "] y is ", name_of(y.dtype), " and x ", name_of(x.dtype));
  if (rstd) check_vector(kName, "rstd", rstd, DType::f32, x.dim[0] * (heads + kv_heads));
}

void HeadNormBwd::check() const {
  const int64_t d = x.cols();
  check_heads(kName, x, heads, kv_heads, w_query, w_key);
  check_rows(kName, "dy", dy, x.rows(), d);
  check_rows(kName, "dx", dx, x.rows(), d);
  llmctl::check(dy.dtype == x.dtype && dx.dtype == x.dtype, Code::bug, "[", kName, "] dy is ", name_of(dy.dtype),
                ", dx ", name_of(dx.dtype), " and x ", name_of(x.dtype));
  check_vector(kName, "rstd", rstd, DType::f32, x.dim[0] * (heads + kv_heads));
  check_grad(kName, grad_query, d, overflow_query, parts);
  check_grad(kName, grad_key, d, overflow_key, parts);
  if (!resume && !pause) return;
  check_vector(kName, "chain_query", chain_query, DType::f32, d);
  check_vector(kName, "chain_key", chain_key, DType::f32, d);
}
#endif

namespace {

constexpr int64_t kColumnBlock = 64;

// The gradient of one weight: heads [first, first + count) of each token.
struct WeightSum {
  int64_t first, count;
  View grad, overflow, chain;
};

// Columns [begin, begin + kColumnBlock).
template <class X, class D>
void weight_gradient(const HeadNormBwd& a, const WeightSum& s, int64_t begin, const X* dy, const X* x, D* grad) {
  const int64_t d = a.x.cols(), normed = a.heads + a.kv_heads;
  const int64_t width = d - begin < kColumnBlock ? d - begin : kColumnBlock;
  const float* rstd = a.rstd.as<float>();
  float* chain = s.chain.as<float>();
  F32 sum[kColumnBlock / kLanes];
  for_lanes(width, [&](int64_t i, int64_t n) { sum[i / kLanes] = a.resume ? load(chain + begin + i, n) : zero(); });
  for (int64_t t = 0; t < a.x.dim[0]; ++t)
    for (int64_t h = s.first; h < s.first + s.count; ++h) {
      const F32 scale = set1(rstd[t * normed + h]);
      const int64_t at = (t * a.x.dim[1] + h) * d + begin;
      for_lanes(width, [&](int64_t i, int64_t n) {
        sum[i / kLanes] = fma(load_row(dy + at + i, n), mul(load_row(x + at + i, n), scale), sum[i / kLanes]);
      });
    }
  FixedAdder adder = fixed_adder(a.parts);
  for_lanes(width, [&](int64_t i, int64_t n) {
    if (a.pause)
      store(chain + begin + i, sum[i / kLanes], n);
    else
      add_grad(adder, grad + begin + i, sum[i / kLanes], n);
  });
  if (refused(adder)) raise_flag(s.overflow.as<int32_t>());
}

}  // namespace

void launch(KN_CPU, const HeadNormFwd& a, const Exec& ex) {
  const int64_t t = a.x.dim[0], d = a.x.cols(), all = a.x.dim[1], normed = a.heads + a.kv_heads;
  float* rstd = a.rstd.as<float>();
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.w_query, [&](auto* w_query) {
      auto* y = static_cast<decltype(x)>(a.y.data);
      const auto* w_key = static_cast<decltype(w_query)>(a.w_key.data);
      for_blocks(ex, t * all, rows_per_task(d), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const int64_t head = r % all;
          if (head >= normed) {
            if (x != y) std::memcpy(y + r * d, x + r * d, static_cast<size_t>(d) * sizeof(*x));
            continue;
          }
          const float s = normalize_row(x + r * d, head < a.heads ? w_query : w_key, y + r * d, d, a.eps);
          if (rstd) rstd[r / all * normed + head] = s;
        }
      });
    });
  });
}

void launch(KN_CPU, const HeadNormBwd& a, const Exec& ex) {
  const int64_t t = a.x.dim[0], d = a.x.cols(), all = a.x.dim[1], normed = a.heads + a.kv_heads;
  const float* rstd = a.rstd.as<float>();
  const WeightSum sums[2] = {{0, a.heads, a.grad_query, a.overflow_query, a.chain_query},
                             {a.heads, a.kv_heads, a.grad_key, a.overflow_key, a.chain_key}};
  by_dtype(a.x, [&](auto* x) {
    const auto* dy = static_cast<decltype(x)>(a.dy.data);
    auto* dx = static_cast<decltype(x)>(a.dx.data);
    parallel_for(ex, 2 * ((d + kColumnBlock - 1) / kColumnBlock), [&](int64_t i) {  // before dx, which may be dy
      const WeightSum& s = sums[i % 2];
      by_grad(s.grad, [&](auto* grad) { weight_gradient(a, s, i / 2 * kColumnBlock, dy, x, grad); });
    });
    by_dtype(a.w_query, [&](auto* w_query) {
      const auto* w_key = static_cast<decltype(w_query)>(a.w_key.data);
      for_blocks(ex, t * all, rows_per_task(d), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const int64_t head = r % all;
          if (head < normed)
            backward_row(dy + r * d, x + r * d, head < a.heads ? w_query : w_key, rstd[r / all * normed + head],
                         static_cast<decltype(dx)>(nullptr), dx + r * d, d);
          else if (dx != dy)
            std::memcpy(dx + r * d, dy + r * d, static_cast<size_t>(d) * sizeof(*dx));
        }
      });
    });
  });
}

}  // namespace llmctl::kn
