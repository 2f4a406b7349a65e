// SPDX-License-Identifier: Apache-2.0
// Our own elementary functions: FMAs and exact steps only, so that the same bits come out on every
// instruction set and on CUDA (NUMERICS rule 8). No libm here, and none in code that uses this.
//
// f32, for `float` on the host and in CUDA, and for the F32 of simd.h in sources that are compiled
// once per instruction set:  exp, log, tanh, sigmoid, silu, erf.
// Largest error against the exact value: exp 1.1 ULP, log 1, tanh 1.5, erf 1.5, sigmoid and silu 2.5.
// NaN gives NaN; exp(-inf) = 0; results below the smallest normal float are 0, and so are sigmoid and
// silu below -88.72. Callers have denormals-are-zero set (exec.h).
//
// f64, host and CUDA, for schedules, rope tables, beta^t, sampling and calibration:
// exp64, log64, sin64, cos64, powint64: at most 1.6 ULP; pow64: see there. Arguments are reduced as by
// Cody and Waite; polynomials are weighted least squares fits for f32, Taylor's for f64.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#ifdef KN_ISA
#include "kernels/simd.h"
#endif

#ifdef __CUDACC__
#define KN_MATH_MEMBER __forceinline__ __host__ __device__
#else
#define KN_MATH_MEMBER inline __attribute__((always_inline))
#endif
#define KN_MATH static KN_MATH_MEMBER

namespace llmctl::kn::math {

// ------------------------------------------------------------------ one float as a lane
// The names of simd.h for one float; templates below find those of F32 by its namespace.
KN_MATH float add(float a, float b) {
  return a + b;
}
KN_MATH float sub(float a, float b) {
  return a - b;
}
KN_MATH float mul(float a, float b) {
  return a * b;
}
KN_MATH float div(float a, float b) {
  return a / b;
}
KN_MATH float fma(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}
KN_MATH float sqrt(float a) {
#ifdef __CUDA_ARCH__
  return __fsqrt_rn(a);
#else
  return __builtin_sqrtf(a);
#endif
}
KN_MATH int32_t bits(float a) {
  int32_t b;
  memcpy(&b, &a, 4);
  return b;
}
KN_MATH float from_bits(int32_t b) {
  float a;
  memcpy(&a, &b, 4);
  return a;
}
KN_MATH float to_float(int32_t a) {
  return static_cast<float>(a);
}
KN_MATH int32_t iadd(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}
KN_MATH int32_t isub(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b));
}
KN_MATH int32_t iand(int32_t a, int32_t b) {
  return a & b;
}
KN_MATH int32_t ior(int32_t a, int32_t b) {
  return a | b;
}
KN_MATH int32_t up23(int32_t a) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) << 23);
}
KN_MATH int32_t down23(int32_t a) {
  return a >> 23;
}
KN_MATH bool lt(float a, float b) {
  return a < b;
}
KN_MATH bool le(float a, float b) {
  return a <= b;
}
KN_MATH float select(bool m, float a, float b) {
  return m ? a : b;
}
// A constant of the type of the first argument.
KN_MATH float like(float, float c) {
  return c;
}
KN_MATH int32_t ilike(int32_t, int32_t c) {
  return c;
}
#ifdef KN_ISA
KN_MATH I32 up23(I32 a) {
  return shl<23>(a);
}
KN_MATH I32 down23(I32 a) {
  return sar<23>(a);
}
KN_MATH F32 like(F32, float c) {
  return set1(c);
}
KN_MATH I32 ilike(I32, int32_t c) {
  return iset1(c);
}
#endif

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kSmallest = 0x1p-126f, kLargest = 0x1.fffffep127f;
constexpr double kInfinity64 = std::numeric_limits<double>::infinity();
constexpr double kNan64 = std::numeric_limits<double>::quiet_NaN();

// ------------------------------------------------------------------ f32
template <class T>
KN_MATH T exp(T x) {
  // x = n ln2 + r, |r| <= ln2/2. The low bits of t hold the integer n.
  const T magic = like(x, 0x1.8p23f);
  const T t = fma(x, like(x, 0x1.715476p+0f), magic);
  const T n = sub(t, magic);
  T r = fma(n, like(x, -0x1.62e43p-1f), x);
  r = fma(n, like(x, 0x1.05c61p-29f), r);
  T p = like(x, 0x1.6a628ep-10f);
  p = fma(p, r, like(x, 0x1.123ac8p-7f));
  p = fma(p, r, like(x, 0x1.55589ep-5f));
  p = fma(p, r, like(x, 0x1.55549p-3f));
  p = fma(p, r, like(x, 0x1.fffffcp-2f));
  p = fma(p, mul(r, r), r);
  p = add(p, like(x, 1.0f));
  const T y = from_bits(iadd(bits(p), up23(bits(t))));
  // Above ln(FLT_MAX) infinity, and NaN stays NaN; below ln(FLT_MIN) zero.
  const T high = select(le(x, like(x, 0x1.62e42ep+6f)), y, mul(x, like(x, kInfinity)));
  return select(lt(x, like(x, -0x1.5d589ep+6f)), like(x, 0.0f), high);
}

template <class T>
KN_MATH T log(T x) {
  // x = 2^e m, sqrt(1/2) <= m < sqrt(2).
  const auto b = bits(x);
  const auto e = down23(isub(b, ilike(b, 0x3f3504f3)));
  const T f = sub(from_bits(isub(b, up23(e))), like(x, 1.0f));
  const T k = to_float(e), f2 = mul(f, f);
  T p = like(x, 0x1.13c372p-4f);
  p = fma(p, f, like(x, -0x1.dda1bp-4f));
  p = fma(p, f, like(x, 0x1.e6df82p-4f));
  p = fma(p, f, like(x, -0x1.fc3d26p-4f));
  p = fma(p, f, like(x, 0x1.233acp-3f));
  p = fma(p, f, like(x, -0x1.555b9p-3f));
  p = fma(p, f, like(x, 0x1.99a47ap-3f));
  p = fma(p, f, like(x, -0x1.000008p-2f));
  p = fma(p, f, like(x, 0x1.555548p-2f));
  p = mul(mul(p, f), f2);
  p = fma(f2, like(x, -0.5f), p);
  p = fma(k, like(x, -0x1.05c61p-29f), p);
  p = fma(k, like(x, 0x1.62e43p-1f), add(f, p));
  const T low = select(le(x, like(x, -kSmallest)), like(x, kNan), like(x, -kInfinity));
  const T y = select(lt(x, like(x, kSmallest)), low, p);
  return select(le(x, like(x, kLargest)), y, add(x, x));
}

template <class T>
KN_MATH T absolute(T x) {
  const auto b = bits(x);
  return from_bits(iand(b, ilike(b, 0x7fffffff)));
}
// y >= 0 with the sign of x.
template <class T>
KN_MATH T with_sign(T y, T x) {
  const auto b = bits(x);
  return from_bits(ior(bits(y), iand(b, ilike(b, static_cast<int32_t>(0x80000000u)))));
}

template <class T>
KN_MATH T tanh(T x) {
  const T a = absolute(x), t = mul(x, x);
  T p = like(x, -0x1.97781ap-8f);
  p = fma(p, t, like(x, 0x1.58a54cp-6f));
  p = fma(p, t, like(x, -0x1.b91882p-5f));
  p = fma(p, t, like(x, 0x1.110cd8p-3f));
  p = fma(p, t, like(x, -0x1.55554ap-2f));
  p = fma(mul(p, t), a, a);
  const T one = like(x, 1.0f);
  const T q = sub(one, div(like(x, 2.0f), add(exp(add(a, a)), one)));
  return with_sign(select(lt(a, like(x, 0.55f)), p, q), x);
}

template <class T>
KN_MATH T sigmoid(T x) {
  const T one = like(x, 1.0f);
  return div(one, add(one, exp(sub(like(x, 0.0f), x))));
}

// x sigmoid(x); silu(-inf) is NaN.
template <class T>
KN_MATH T silu(T x) {
  return div(x, add(like(x, 1.0f), exp(sub(like(x, 0.0f), x))));
}

template <class T>
KN_MATH T erf(T x) {
  const T a = absolute(x), t = mul(x, x);
  T p = like(x, 0x1.4e4dc8p-14f);
  p = fma(p, t, like(x, -0x1.a5bc94p-11f));
  p = fma(p, t, like(x, 0x1.544296p-8f));
  p = fma(p, t, like(x, -0x1.b80082p-6f));
  p = fma(p, t, like(x, 0x1.ce2d6p-4f));
  p = fma(p, t, like(x, -0x1.81274p-2f));
  p = fma(p, t, like(x, 0x1.06eba8p-3f));
  p = fma(p, x, x);
  // erf(a) = 1 - exp(-q(a)), and 1 above 4.
  const T c = select(lt(a, like(x, 4.0f)), a, like(x, 4.0f));
  T q = like(x, 0x1.6111cep-16f);
  q = fma(q, c, like(x, -0x1.c6ee58p-12f));
  q = fma(q, c, like(x, 0x1.11277ap-8f));
  q = fma(q, c, like(x, -0x1.9b6b4ep-6f));
  q = fma(q, c, like(x, 0x1.bb75bcp-4f));
  q = fma(q, c, like(x, 0x1.4447b8p-1f));
  q = fma(q, c, like(x, 0x1.212776p+0f));
  q = fma(q, c, like(x, -0x1.6b60ecp-13f));
  const T far = with_sign(sub(like(x, 1.0f), exp(sub(like(x, 0.0f), q))), x);
  const T y = select(lt(a, like(x, 0.92f)), p, far);
  return select(le(a, like(x, kInfinity)), y, x);
}

}  // namespace llmctl::kn::math

namespace llmctl::kn {

using math::erf;
using math::exp;
using math::log;
using math::sigmoid;
using math::silu;
using math::tanh;

// ------------------------------------------------------------------ f64
namespace math {
KN_MATH double fma64(double a, double b, double c) {
#ifdef __CUDA_ARCH__
  return __fma_rn(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}
KN_MATH double sqrt64(double x) {
#ifdef __CUDA_ARCH__
  return __dsqrt_rn(x);
#else
  return __builtin_sqrt(x);
#endif
}
KN_MATH double nearest64(double x) {  // to even, |x| < 2^51
  return (x + 0x1.8p52) - 0x1.8p52;
}
KN_MATH double from_bits64(int64_t b) {
  double a;
  memcpy(&a, &b, 8);
  return a;
}
KN_MATH int64_t bits64(double a) {
  int64_t b;
  memcpy(&b, &a, 8);
  return b;
}
KN_MATH double power_of_two64(int64_t n) {  // -1022 <= n <= 1023
  return from_bits64((n + 1023) << 52);
}
}  // namespace math

// 0 below the smallest normal double.
KN_MATH double exp64(double x) {
  if (!(x < 0x1.62e42fefa39fp+9)) return x > 0 ? math::kInfinity64 : x;
  if (x < -0x1.6232bdd7abcd2p+9) return 0.0;
  const double n = math::nearest64(x * 0x1.71547652b82fep+0);
  double r = math::fma64(n, -0x1.62e42fefa39efp-1, x);
  r = math::fma64(n, -0x1.abc9e3b39803fp-56, r);
  double p = 1.0;  // 1 + r/2 (1 + r/3 (1 + ...)), without its first two terms
  for (int i = 14; i >= 3; --i) p = math::fma64(p, r / i, 1.0);
  p = math::fma64(p * 0.5, r * r, r) + 1.0;
  const int64_t k = static_cast<int64_t>(n), half = k / 2;
  return (p * math::power_of_two64(half)) * math::power_of_two64(k - half);
}

// x > 0, else NaN or (0, denormal) -inf.
KN_MATH double log64(double x) {
  if (!(x >= 0x1p-1022)) return x > -0x1p-1022 ? -math::kInfinity64 : math::kNan64;
  if (x == math::kInfinity64) return x;
  int64_t b = math::bits64(x);
  const int64_t e = (b - 0x3fe6a09e667f3bcdLL) >> 52;  // m from sqrt(1/2)
  const double m = math::from_bits64(b - static_cast<int64_t>(static_cast<uint64_t>(e) << 52));
  const double f = m - 1.0, s = f / (2.0 + f), z = s * s, h = 0.5 * f * f;
  // log(1+f) = 2 atanh(s) = f - (h - s (h + R)), R = 2z/3 + 2z^2/5 + ...
  double p = 0.0;
  for (int i = 25; i >= 3; i -= 2) p = math::fma64(p, z, 2.0 / i);
  const double rest =
      h - math::fma64(s, math::fma64(p, z, h), static_cast<double>(e) * 0x1.abc9e3b39803fp-56);
  return math::fma64(static_cast<double>(e), 0x1.62e42fefa39efp-1, f - rest);
}

namespace math {
// x = quarter * pi/2 + r. The first step is exact: its terms are multiples of 2^-53.
KN_MATH double quarter_turns(double x, int64_t& quarter) {
  const double n = nearest64(x * 0x1.45f306dc9c883p-1);
  quarter = static_cast<int64_t>(n) & 3;
  double r = fma64(n, -0x1.921fb54442d18p+0, x);
  r = fma64(n, -0x1.1a62633145c07p-54, r);
  return fma64(n, 0x1.f1976b7ed8fbcp-110, r);
}
KN_MATH double sin_small(double r) {  // |r| <= pi/4
  const double z = r * r;
  double p = 1.0;
  for (int i = 18; i >= 4; i -= 2) p = fma64(p, -z / (i * (i + 1)), 1.0);
  return fma64(p * z / -6.0, r, r);
}
KN_MATH double cos_small(double r) {
  const double z = r * r;
  double p = 1.0;
  for (int i = 17; i >= 3; i -= 2) p = fma64(p, -z / (i * (i + 1)), 1.0);
  // 1 - z/2 loses the error of its rounding to the rest.
  const double h = 0.5 * z, w = 1.0 - h;
  return w + ((1.0 - w) - h + fma64(p - 1.0, -h, 0.0));
}
}  // namespace math

// Radians, |x| <= 2^30.
KN_MATH double sin64(double x) {
  int64_t q;
  const double r = math::quarter_turns(x, q);
  const double y = (q & 1) ? math::cos_small(r) : math::sin_small(r);
  return (q & 2) ? -y : y;
}
KN_MATH double cos64(double x) {
  int64_t q;
  const double r = math::quarter_turns(x, q);
  const double y = (q & 1) ? math::sin_small(r) : math::cos_small(r);
  return ((q + 1) & 2) ? -y : y;
}

// x^n for n >= 0, as beta^step: repeated squaring on sums of two doubles.
KN_MATH double powint64(double x, int64_t n) {
  double high = 1.0, low = 0.0, square = x, square_low = 0.0;
  for (; n > 0; n >>= 1) {
    if (n & 1) {
      const double p = high * square;
      low = math::fma64(high, square, -p) + (high * square_low + low * square);
      high = p;
    }
    const double p = square * square;
    square_low = math::fma64(square, square, -p) + 2.0 * square * square_low;
    square = p;
  }
  return high + low;
}

// x^y for x > 0, with a relative error below (2 + 3 |y log x|) 2^-53.
KN_MATH double pow64(double x, double y) {
  return exp64(y * log64(x));
}

}  // namespace llmctl::kn
