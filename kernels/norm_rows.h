// SPDX-License-Identifier: Apache-2.0
// One row of RMSNorm, forward and backward: what norm.cpp and head_norm.cpp share. Internal to kernels/;
// compiled once per instruction set.
#pragma once

#include "kernels/rows.h"

namespace llmctl::kn {
namespace KN_NS {

template <class X, class W, class Y>
KN_INLINE float normalize_row(const X* x, const W* w, Y* y, int64_t d, float eps) {
  F32 squares = zero();
  for_lanes(d, [&](int64_t i, int64_t n) {
    const F32 v = load_row(x + i, n);
    squares = fma(v, v, squares);
  });
  const float mean = sum16(squares) / static_cast<float>(d);
  const float rstd = 1.0f / math::sqrt(mean + eps);
  const F32 scale = set1(rstd);
  for_lanes(d, [&](int64_t i, int64_t n) {
    store_row(y + i, mul(mul(load_row(x + i, n), scale), load_row(w + i, n)), n);
  });
  return rstd;
}

// dx = fma(rstd, dy w - xhat c, dresidual), c = mean(dy w xhat).
template <class G, class X, class W, class D>
KN_INLINE void backward_row(const G* dy, const X* x, const W* w, float rstd, const D* residual, D* dx, int64_t d) {
  const F32 scale = set1(rstd);
  F32 dots = zero();
  for_lanes(d, [&](int64_t i, int64_t n) {
    const F32 g = mul(load_row(dy + i, n), load_row(w + i, n));
    dots = fma(g, mul(load_row(x + i, n), scale), dots);
  });
  const F32 c = set1(sum16(dots) / static_cast<float>(d));
  for_lanes(d, [&](int64_t i, int64_t n) {
    const F32 g = mul(load_row(dy + i, n), load_row(w + i, n));
    const F32 t = sub(g, mul(mul(load_row(x + i, n), scale), c));
    const F32 r = residual ? load_row(residual + i, n) : zero();
    store_row(dx + i, fma(scale, t, r), n);
  });
}

}  // namespace KN_NS
}  // namespace llmctl::kn
