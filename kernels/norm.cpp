// SPDX-License-Identifier: Apache-2.0
// RMSNorm on the CPU. Rows are independent; the weight's gradient is a second walk whose tasks are
// blocks of columns, so that each column is one chain over tokens.
#include "kernels/norm.h"

#include "kernels/norm_rows.h"
#include "kernels/simd.h"

namespace llmctl::kn {

#if KN_ONCE
void RmsNormFwd::check() const {
  const int64_t t = x.rows(), d = x.cols();
  check_rows(kName, "x", x, t, d);
  check_rows(kName, "y", y, t, d);
  check_rows(kName, "w", w, 1, d);
  if (rstd) check_vector(kName, "rstd", rstd, DType::f32, t);
}

void RmsNormBwd::check() const {
  const int64_t t = x.rows(), d = x.cols();
  check_rows(kName, "x", x, t, d);
  check_rows(kName, "dy", dy, t, d);
  check_rows(kName, "dx", dx, t, d);
  check_rows(kName, "w", w, 1, d);
  check_vector(kName, "rstd", rstd, DType::f32, t);
  check_residual(kName, dresidual, dx);
  check_grad(kName, grad, d, overflow, parts);
  if (resume || pause) check_vector(kName, "chain", chain, DType::f32, d);
}
#endif

namespace {

constexpr int64_t kColumnBlock = 64;

template <class G, class X, class D>
void weight_gradient(const RmsNormBwd& a, const G* dy, const X* x, D* grad, const Exec& ex) {
  const int64_t t = a.x.rows(), d = a.x.cols();
  const float* rstd = a.rstd.as<float>();
  for_blocks(ex, d, kColumnBlock, [&](int64_t begin, int64_t end) {
    F32 sum[kColumnBlock / kLanes] = {zero(), zero(), zero(), zero()};
    float* chain = a.chain.as<float>();
    if (a.resume) for_lanes(end - begin, [&](int64_t i, int64_t n) { sum[i / kLanes] = load(chain + begin + i, n); });
    for (int64_t r = 0; r < t; ++r) {
      const F32 scale = set1(rstd[r]);
      for_lanes(end - begin, [&](int64_t i, int64_t n) {
        const int64_t at = r * d + begin + i;
        F32& s = sum[i / kLanes];
        s = fma(load_row(dy + at, n), mul(load_row(x + at, n), scale), s);
      });
    }
    if (a.pause)
      return for_lanes(end - begin, [&](int64_t i, int64_t n) { store(chain + begin + i, sum[i / kLanes], n); });
    FixedAdder adder = fixed_adder(a.parts);
    for_lanes(end - begin,
              [&](int64_t i, int64_t n) { add_grad(adder, grad + begin + i, sum[i / kLanes], n); });
    if (refused(adder)) raise_flag(a.overflow.as<int32_t>());
  });
}

}  // namespace

void launch(KN_CPU, const RmsNormFwd& a, const Exec& ex) {
  const int64_t t = a.x.rows(), d = a.x.cols();
  float* rstd = a.rstd.as<float>();
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.w, [&](auto* w) {
      by_dtype(a.y, [&](auto* y) {
        for_blocks(ex, t, rows_per_task(d), [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r) {
            const float s = normalize_row(x + r * d, w, y + r * d, d, a.eps);
            if (rstd) rstd[r] = s;
          }
        });
      });
    });
  });
}

void launch(KN_CPU, const RmsNormBwd& a, const Exec& ex) {
  const int64_t t = a.x.rows(), d = a.x.cols();
  const float* rstd = a.rstd.as<float>();
  by_dtype(a.dy, [&](auto* dy) {
    by_dtype(a.x, [&](auto* x) {
      by_grad(a.grad, [&](auto* grad) { weight_gradient(a, dy, x, grad, ex); });
      by_dtype(a.w, [&](auto* w) {
        by_dtype(a.dx, [&](auto* dx) {
          const auto* residual = static_cast<decltype(dx)>(a.dresidual.data);
          for_blocks(ex, t, rows_per_task(d), [&](int64_t begin, int64_t end) {
            for (int64_t r = begin; r < end; ++r)
              backward_row(dy + r * d, x + r * d, w, rstd[r], residual ? residual + r * d : nullptr,
                           dx + r * d, d);
          });
        });
      });
    });
  });
}

}  // namespace llmctl::kn
