// SPDX-License-Identifier: Apache-2.0
// Gradients in 64-bit fixed point at scale 2^40 (NUMERICS rule 14): integer addition is associative,
// so any grouping of parts gives the same sum. A value is rounded once, to nearest even, when it
// becomes fixed point, and once when the sum becomes a float again.
//
// A value is refused when it is not finite or |g| 2^40 >= 2^62 / parts, parts being the number of
// contributions in the step: then no sum can overflow. What is refused adds 0 and raises the
// caller's flag; the step must not be used.
// The scalar half is for the host and CUDA; the F32 half needs KN_ISA.
#pragma once

#include "kernels/math.h"

namespace llmctl::kn {

constexpr float kFixedScale = 0x1p40f;

KN_MATH float fixed_limit(int64_t parts) {
  return 0x1p22f / static_cast<float>(parts);
}
KN_MATH bool fits_fixed(float g, float limit) {
  return g < limit && -g < limit;
}  // false for NaN

// Of a value that fits.
KN_MATH int64_t to_fixed(float g) {
  double d = static_cast<double>(g) * 0x1p40;
  if (d < 0x1p51 && d > -0x1p51) d = math::nearest64(d);  // larger values are integers already
  return static_cast<int64_t>(d);
}

// Correctly rounded from all 64 bits, not through a double.
KN_MATH float from_fixed(int64_t sum) {
#ifdef __CUDA_ARCH__
  return __ll2float_rn(sum) * 0x1p-40f;
#else
  return static_cast<float>(sum) * 0x1p-40f;
#endif
}

// As fixed point would give a value back that fits.
KN_MATH float rounded_fixed(float g) { return from_fixed(to_fixed(g)); }

#ifdef KN_ISA
// Sets an overflow flag; any number of tasks may do so at once.
KN_INLINE void raise_flag(int32_t* flag) {
  __atomic_store_n(flag, 1, __ATOMIC_RELAXED);
}

// Adds lanes to sums in memory and remembers whether any was refused. One per task; at the end:
//   if (adder.refused()) raise_flag(flag);
struct FixedAdder {
  F32 limit;
  I32 bad;
};
KN_INLINE FixedAdder fixed_adder(int64_t parts) {
  return {set1(fixed_limit(parts)), iset1(0)};
}
KN_INLINE bool refused(const FixedAdder& a) {
  return any(ilt(a.bad, iset1(0)));
}

namespace math {
#if KN_ISA >= 2
KN_INLINE void add_whole(int64_t* p, F32 v) {  // v integer after rounding, |v| < 2^62
  __m512i low = _mm512_cvtps_epi64(_mm512_castps512_ps256(v.v));
  __m512i high = _mm512_cvtps_epi64(_mm512_extractf32x8_ps(v.v, 1));
  _mm512_storeu_si512(p, _mm512_add_epi64(_mm512_loadu_si512(p), low));
  _mm512_storeu_si512(p + 8, _mm512_add_epi64(_mm512_loadu_si512(p + 8), high));
}
#elif KN_ISA == 1
KN_INLINE void add_four(int64_t* p, __m128i high, __m128i low) {
  __m256i* q = reinterpret_cast<__m256i*>(p);
  __m256i whole =
      _mm256_add_epi64(_mm256_slli_epi64(_mm256_cvtepi32_epi64(high), 31), _mm256_cvtepi32_epi64(low));
  _mm256_storeu_si256(q, _mm256_add_epi64(_mm256_loadu_si256(q), whole));
}
KN_INLINE void add_whole(int64_t* p, F32 v) {
  // Both halves are exact: v has 24 bits. An even multiple of 2^31 does not move a tie.
  F32 h = round_even(mul(v, set1(0x1p-31f)));
  I32 high = to_int(h), low = to_int(fma(h, set1(-0x1p31f), v));
  add_four(p, _mm256_castsi256_si128(high.a), _mm256_castsi256_si128(low.a));
  add_four(p + 4, _mm256_extracti128_si256(high.a, 1), _mm256_extracti128_si256(low.a, 1));
  add_four(p + 8, _mm256_castsi256_si128(high.b), _mm256_castsi256_si128(low.b));
  add_four(p + 12, _mm256_extracti128_si256(high.b, 1), _mm256_extracti128_si256(low.b, 1));
}
#elif KN_ISA == -1
KN_INLINE void add_whole(int64_t* p, F32 v) {
  add_whole4(p, v.a), add_whole4(p + 4, v.b), add_whole4(p + 8, v.c), add_whole4(p + 12, v.d);
}
#else
KN_INLINE void add_whole(int64_t* p, F32 v) {
#ifdef __aarch64__
  for (int i = 0; i < kLanes; ++i) p[i] += vcvtnd_s64_f64(static_cast<double>(v.v[i]));
#else
  for (int i = 0; i < kLanes; ++i) p[i] += _mm_cvtss_si64(_mm_set_ss(v.v[i]));
#endif
}
#endif
}  // namespace math

// p[i] += fixed(g[i]) for the 16 lanes, or for the first n of them.
KN_INLINE void add_fixed(FixedAdder& a, int64_t* p, F32 g) {
  Mask ok = lt(math::absolute(g), a.limit);
  a.bad = ior(a.bad, iselect(ok, iset1(0), iset1(-1)));
  math::add_whole(p, mul(select(ok, g, zero()), set1(kFixedScale)));
}
KN_INLINE void add_fixed(FixedAdder& a, int64_t* p, F32 g, int64_t n) {
  if (n >= kLanes) return add_fixed(a, p, g);
  int64_t t[kLanes] = {};
  float lanes[kLanes];
  store(lanes, g);
  add_fixed(a, t, load(lanes, n));
  for (int64_t i = 0; i < n; ++i) p[i] += t[i];
}

// The lanes as fixed point would give them back: what is the only contribution may stay f32.
KN_INLINE F32 rounded_fixed(FixedAdder& a, F32 g) {
  Mask ok = lt(math::absolute(g), a.limit);
  a.bad = ior(a.bad, iselect(ok, iset1(0), iset1(-1)));
  // An integer 0 has no sign.
  return add(mul(round_even(mul(select(ok, g, zero()), set1(kFixedScale))), set1(0x1p-40f)), zero());
}

// The floats of 16 sums, or of the first n with the rest +0.
KN_INLINE F32 load_fixed(const int64_t* p) {
#if KN_ISA >= 2
  __m512 low = _mm512_castps256_ps512(_mm512_cvtepi64_ps(_mm512_loadu_si512(p)));
  return {_mm512_mul_ps(_mm512_insertf32x8(low, _mm512_cvtepi64_ps(_mm512_loadu_si512(p + 8)), 1),
                        _mm512_set1_ps(0x1p-40f))};
#else
  float t[kLanes];
  for (int i = 0; i < kLanes; ++i) t[i] = from_fixed(p[i]);
  return load(t);
#endif
}
KN_INLINE F32 load_fixed(const int64_t* p, int64_t n) {
  if (n >= kLanes) return load_fixed(p);
  int64_t t[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) t[i] = p[i];
  return load_fixed(t);
}

// A gradient element type switch: i64 fixed point or f32.
KN_INLINE F32 load_grad(const int64_t* p, int64_t n) {
  return load_fixed(p, n);
}
KN_INLINE F32 load_grad(const float* p, int64_t n) {
  return load(p, n);
}
KN_INLINE void add_grad(FixedAdder& a, int64_t* p, F32 g, int64_t n) {
  add_fixed(a, p, g, n);
}
KN_INLINE void add_grad(FixedAdder&, float* p, F32 g, int64_t n) {
  store(p, add(load(p, n), g), n);
}
#endif

}  // namespace llmctl::kn
