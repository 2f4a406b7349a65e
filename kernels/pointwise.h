// SPDX-License-Identifier: Apache-2.0
// The formulas of elementwise ops, written once for a float (CUDA) and for F32 (CPU): the order of
// roundings is here and nowhere else.
#pragma once

#include "kernels/math.h"

namespace llmctl::kn::math {

template <class T>
struct SwigluSlopes {
  T gate, up;
};
// With s = sigmoid(gate): dgate = (dy up) fma(gate s, 1 - s, s), dup = dy (gate s).
template <class T>
KN_MATH SwigluSlopes<T> swiglu_slopes(T gate, T up, T dy) {
  const T s = sigmoid(gate), value = mul(gate, s);
  const T slope = fma(value, sub(like(s, 1.0f), s), s);
  return {mul(mul(dy, up), slope), mul(dy, value)};
}

constexpr float kRootTwoOverPi = 0x1.988454p-1f, kCubic = 0x1.6e4e26p-5f;  // 0.044715
constexpr float kRootHalf = 0x1.6a09e6p-1f, kNormalPeak = 0x1.988454p-2f;  // 1/sqrt(2), 1/sqrt(2 pi)

struct GeluTanh {
  template <class T>
  static KN_MATH_MEMBER T bend(T x) {
    const T cubic = fma(like(x, kCubic), mul(x, x), like(x, 1.0f));
    return tanh(mul(mul(like(x, kRootTwoOverPi), x), cubic));
  }
  template <class T>
  static KN_MATH_MEMBER T value(T x) {
    return mul(mul(like(x, 0.5f), x), add(like(x, 1.0f), bend(x)));
  }
  template <class T>
  static KN_MATH_MEMBER T slope(T x) {
    const T half = like(x, 0.5f), one = like(x, 1.0f), t = bend(x);
    const T inner = mul(like(x, kRootTwoOverPi), fma(like(x, 3.0f * kCubic), mul(x, x), one));
    return fma(half, add(one, t), mul(mul(mul(half, x), sub(one, mul(t, t))), inner));
  }
};

struct GeluErf {
  template <class T>
  static KN_MATH_MEMBER T share(T x) {
    return mul(like(x, 0.5f), add(like(x, 1.0f), erf(mul(x, like(x, kRootHalf)))));
  }
  template <class T>
  static KN_MATH_MEMBER T value(T x) {
    return mul(x, share(x));
  }
  template <class T>
  static KN_MATH_MEMBER T slope(T x) {
    const T density = mul(like(x, kNormalPeak), exp(mul(mul(like(x, -0.5f), x), x)));
    return fma(x, density, share(x));
  }
};

// AdamW of one element; the constants are made once on the host, each in one rounding.
struct AdamWFactors {
  float scale, beta1, rest1, beta2, rest2;  // rest = 1 - beta
  float shrink;                             // -(lr decay)
  float step;                               // -(lr / bias1)
  float root_bias2, eps;
};
template <class Op>
KN_MATH AdamWFactors adamw_factors(const Op& a) {
  return {a.scale,           a.beta1,           1.0f - a.beta1,      a.beta2, 1.0f - a.beta2,
          -(a.lr * a.decay), -(a.lr / a.bias1), math::sqrt(a.bias2), a.eps};
}
// m = fma(beta1, m, rest1 g); v = fma(beta2, v, (rest2 g) g); w = fma(shrink, w, w);
// w = fma(step, m / (sqrt(v) / root_bias2 + eps), w).
template <class T>
KN_MATH void adamw_step(const AdamWFactors& f, T g, T& w, T& m, T& v) {
  g = mul(g, like(g, f.scale));
  m = fma(like(g, f.beta1), m, mul(like(g, f.rest1), g));
  v = fma(like(g, f.beta2), v, mul(mul(like(g, f.rest2), g), g));
  w = fma(like(g, f.shrink), w, w);
  const T root = add(div(sqrt(v), like(g, f.root_bias2)), like(g, f.eps));
  w = fma(like(g, f.step), div(m, root), w);
}

// Muon's momentum of one element, as two steps of lerp; rest = 1 - momentum.
struct MomentumFactors {
  float scale, momentum, rest;
  bool nesterov;
};
// m = fma(momentum, m, rest g); the update is fma(momentum, m, rest g) again (Nesterov), or m.
template <class T>
KN_MATH T momentum_step(const MomentumFactors& f, T g, T& m) {
  const T fresh = mul(like(g, f.rest), mul(g, like(g, f.scale)));
  m = fma(like(g, f.momentum), m, fresh);
  return f.nesterov ? fma(like(g, f.momentum), m, fresh) : m;
}
// w = fma(shrink, w, w); w = fma(step, u, w), with shrink = -(lr decay) and step below 0 to descend.
template <class T>
KN_MATH T decayed_step(float shrink, float step, T u, T w) {
  w = fma(like(w, shrink), w, w);
  return fma(like(w, step), u, w);
}

}  // namespace llmctl::kn::math
