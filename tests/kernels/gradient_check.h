// SPDX-License-Identifier: Apache-2.0
// Gradients by central differences of an f64 forward pass, for backward ops.
#pragma once

#include <functional>
#include <vector>

#include "tests/kernels/op_check.h"

namespace llmctl::kn {

using Values = std::vector<double>;

inline Values values_of(const Buffer& b) {
  Values v(static_cast<size_t>(b.size()));
  for (size_t i = 0; i < v.size(); ++i) v[i] = b.at(static_cast<int64_t>(i));
  return v;
}

// d(weights . f(x)) / dx.
inline Values gradient_by_differences(const std::function<Values(const Values&)>& f, Values x,
                                      const Values& weights) {
  Values gradient(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double at = x[i], step = 1e-5;
    x[i] = at + step;
    const Values above = f(x);
    x[i] = at - step;
    const Values below = f(x);
    x[i] = at;
    double slope = 0;
    for (size_t j = 0; j < above.size(); ++j) slope += weights[j] * (above[j] - below[j]);
    gradient[i] = slope / (2 * step);
  }
  return gradient;
}

// The floats of a gradient in fixed point or f32.
inline Values gradient_values(const Buffer& grad) {
  Values v = values_of(grad);
  if (grad.view().dtype == DType::i64)
    for (double& x : v) x *= 0x1p-40;
  return v;
}

inline void check_values(const Values& got, const Values& want, double bound) {
  Buffer b(DType::f32, {static_cast<int64_t>(got.size())});
  for (size_t i = 0; i < got.size(); ++i) b.set(static_cast<int64_t>(i), got[i]);
  check_close(b, want, bound);
}

}  // namespace llmctl::kn
