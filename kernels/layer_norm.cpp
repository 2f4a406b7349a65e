// SPDX-License-Identifier: Apache-2.0
// LayerNorm on the CPU, in the manner of norm.cpp.
#include "kernels/norm.h"
#include "kernels/rows.h"
#include "kernels/simd.h"

namespace llmctl::kn {

#if KN_ONCE
void LayerNormFwd::check() const {
  const int64_t t = x.rows(), d = x.cols();
  check_rows(kName, "x", x, t, d);
  check_rows(kName, "y", y, t, d);
  check_rows(kName, "w", w, 1, d);
  check_rows(kName, "b", b, 1, d);
  llmctl::check(w.dtype == b.dtype, Code::bug, "[", kName, "] w is ", name_of(w.dtype), " and b is ",
                name_of(b.dtype), ": want the same");
  if (mean) check_vector(kName, "mean", mean, DType::f32, t);
  if (rstd) check_vector(kName, "rstd", rstd, DType::f32, t);
}

void LayerNormBwd::check() const {
  const int64_t t = x.rows(), d = x.cols();
  check_rows(kName, "x", x, t, d);
  check_rows(kName, "dy", dy, t, d);
  check_rows(kName, "dx", dx, t, d);
  check_rows(kName, "w", w, 1, d);
  check_vector(kName, "mean", mean, DType::f32, t);
  check_vector(kName, "rstd", rstd, DType::f32, t);
  check_residual(kName, dresidual, dx);
  check_grad(kName, grad_w, d, overflow, parts);
  check_grad(kName, grad_b, d, overflow, parts);
  llmctl::check(grad_w.dtype == grad_b.dtype, Code::bug, "[", kName, "] grad_w is ", name_of(grad_w.dtype),
                " and grad_b is ", name_of(grad_b.dtype), ": want the same");
  if (!resume && !pause) return;
  check_vector(kName, "chain_w", chain_w, DType::f32, d);
  check_vector(kName, "chain_b", chain_b, DType::f32, d);
}
#endif

namespace {

constexpr int64_t kColumnBlock = 64;

struct Moments {
  float mean, rstd;
};

template <class X, class W, class Y>
Moments normalize_row(const X* x, const W* w, const W* b, Y* y, int64_t d, float eps) {
  const float count = static_cast<float>(d);
  F32 sum = zero(), squares = zero();
  for_lanes(d, [&](int64_t i, int64_t n) { sum = add(sum, load_row(x + i, n)); });
  const float mean = sum16(sum) / count;
  const F32 center = set1(mean);
  for_lanes(d, [&](int64_t i, int64_t n) {
    const F32 v = keep(sub(load_row(x + i, n), center), n, zero());
    squares = fma(v, v, squares);
  });
  const float rstd = 1.0f / math::sqrt(sum16(squares) / count + eps);
  const F32 scale = set1(rstd);
  for_lanes(d, [&](int64_t i, int64_t n) {
    const F32 xhat = mul(sub(load_row(x + i, n), center), scale);
    store_row(y + i, fma(xhat, load_row(w + i, n), load_row(b + i, n)), n);
  });
  return {mean, rstd};
}

template <class G, class X, class W, class D>
void backward_row(const G* dy, const X* x, const W* w, Moments m, const D* residual, D* dx, int64_t d) {
  const F32 center = set1(m.mean), scale = set1(m.rstd);
  F32 sums = zero(), dots = zero();
  for_lanes(d, [&](int64_t i, int64_t n) {
    const F32 g = mul(load_row(dy + i, n), load_row(w + i, n));
    sums = add(sums, g);
    dots = fma(g, mul(sub(load_row(x + i, n), center), scale), dots);  // g is +0 past the end
  });
  const F32 a = set1(sum16(sums) / static_cast<float>(d)), c = set1(sum16(dots) / static_cast<float>(d));
  for_lanes(d, [&](int64_t i, int64_t n) {
    const F32 g = mul(load_row(dy + i, n), load_row(w + i, n));
    const F32 xhat = mul(sub(load_row(x + i, n), center), scale);
    const F32 r = residual ? load_row(residual + i, n) : zero();
    store_row(dx + i, fma(scale, sub(sub(g, a), mul(xhat, c)), r), n);
  });
}

template <class G, class X, class D>
void weight_gradients(const LayerNormBwd& a, const G* dy, const X* x, D* grad_w, D* grad_b, const Exec& ex) {
  const int64_t t = a.x.rows(), d = a.x.cols();
  const float *mean = a.mean.as<float>(), *rstd = a.rstd.as<float>();
  for_blocks(ex, d, kColumnBlock, [&](int64_t begin, int64_t end) {
    F32 w[kColumnBlock / kLanes] = {zero(), zero(), zero(), zero()};
    F32 b[kColumnBlock / kLanes] = {zero(), zero(), zero(), zero()};
    float *chain_w = a.chain_w.as<float>(), *chain_b = a.chain_b.as<float>();
    if (a.resume)
      for_lanes(end - begin, [&](int64_t i, int64_t n) {
        w[i / kLanes] = load(chain_w + begin + i, n);
        b[i / kLanes] = load(chain_b + begin + i, n);
      });
    for (int64_t r = 0; r < t; ++r) {
      const F32 center = set1(mean[r]), scale = set1(rstd[r]);
      for_lanes(end - begin, [&](int64_t i, int64_t n) {
        const int64_t at = r * d + begin + i, lane = i / kLanes;
        const F32 g = load_row(dy + at, n);
        w[lane] = fma(g, mul(sub(load_row(x + at, n), center), scale), w[lane]);
        b[lane] = add(b[lane], g);
      });
    }
    if (a.pause)
      return for_lanes(end - begin, [&](int64_t i, int64_t n) {
        store(chain_w + begin + i, w[i / kLanes], n);
        store(chain_b + begin + i, b[i / kLanes], n);
      });
    FixedAdder adder = fixed_adder(a.parts);
    for_lanes(end - begin, [&](int64_t i, int64_t n) {
      add_grad(adder, grad_w + begin + i, w[i / kLanes], n);
      add_grad(adder, grad_b + begin + i, b[i / kLanes], n);
    });
    if (refused(adder)) raise_flag(a.overflow.as<int32_t>());
  });
}

}  // namespace

void launch(KN_CPU, const LayerNormFwd& a, const Exec& ex) {
  const int64_t t = a.x.rows(), d = a.x.cols();
  float *mean = a.mean.as<float>(), *rstd = a.rstd.as<float>();
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.w, [&](auto* w) {
      by_dtype(a.y, [&](auto* y) {
        const auto* b = static_cast<decltype(w)>(a.b.data);
        for_blocks(ex, t, rows_per_task(d), [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r) {
            const Moments m = normalize_row(x + r * d, w, b, y + r * d, d, a.eps);
            if (mean) mean[r] = m.mean;
            if (rstd) rstd[r] = m.rstd;
          }
        });
      });
    });
  });
}

void launch(KN_CPU, const LayerNormBwd& a, const Exec& ex) {
  const int64_t t = a.x.rows(), d = a.x.cols();
  const float *mean = a.mean.as<float>(), *rstd = a.rstd.as<float>();
  by_dtype(a.dy, [&](auto* dy) {
    by_dtype(a.x, [&](auto* x) {
      by_grad(a.grad_w, [&](auto* grad_w) {
        weight_gradients(a, dy, x, grad_w, static_cast<decltype(grad_w)>(a.grad_b.data), ex);
      });
      by_dtype(a.w, [&](auto* w) {
        by_dtype(a.dx, [&](auto* dx) {
          const auto* residual = static_cast<decltype(dx)>(a.dresidual.data);
          for_blocks(ex, t, rows_per_task(d), [&](int64_t begin, int64_t end) {
            for (int64_t r = begin; r < end; ++r)
              backward_row(dy + r * d, x + r * d, w, {mean[r], rstd[r]},
                           residual ? residual + r * d : nullptr, dx + r * d, d);
          });
        });
      });
    });
  });
}

}  // namespace llmctl::kn
