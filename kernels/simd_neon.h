// SPDX-License-Identifier: Apache-2.0
// The sixteen lanes of simd.h as four 128-bit vectors, for every AArch64 CPU (Advanced SIMD with
// FMA is part of the base). Part of simd.h, which alone includes it, with KN_ISA = -1.
//
// The bits are x86's, with FPCR.FZ and DN set (exec.h), and where the two differ the x86 way is made
// by hand: max and min return the second operand for NaN and for two zeros, and flush what they
// return; to_int gives 0x80000000 for what does not fit. What cannot be had: FZ flushes a result by
// its size before rounding, x86 by its size after it. A product or an FMA whose exact value lies in
// [2^-126 (1 - 2^-25), 2^-126), which x86 rounds up to 2^-126, is 0 here (tests/kernels/lanes_test.cpp
// has one). Sums, quotients and roots have no value there. NaNs are 0x7fc00000 here and keep their
// payload on x86: no digest sees one (NUMERICS rule 7).
#pragma once

#if KN_ISA != -1
#error "simd_neon.h is a part of simd.h"
#endif

#include <arm_neon.h>

#include <cstdint>

#include "kernels/op.h"

namespace llmctl::kn {
namespace neon {

struct F32 { float32x4_t a, b, c, d; };
struct I32 { int32x4_t a, b, c, d; };
struct Mask { uint32x4_t a, b, c, d; };

KN_INLINE F32 set1(float x) {
  const float32x4_t v = vdupq_n_f32(x);
  return {v, v, v, v};
}
KN_INLINE F32 zero() { return set1(0.0f); }
KN_INLINE I32 iset1(int32_t x) {
  const int32x4_t v = vdupq_n_s32(x);
  return {v, v, v, v};
}
KN_INLINE F32 load(const float* p) {
  return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
KN_INLINE F32 load(const float* p, int64_t n) {
  if (n >= 16) return load(p);
  float t[16] = {};
  for (int64_t i = 0; i < n; ++i) t[i] = p[i];
  return load(t);
}
KN_INLINE void store(float* p, F32 x) {
  vst1q_f32(p, x.a), vst1q_f32(p + 4, x.b), vst1q_f32(p + 8, x.c), vst1q_f32(p + 12, x.d);
}
KN_INLINE void store(float* p, F32 x, int64_t n) {
  if (n >= 16) return store(p, x);
  float t[16];
  store(t, x);
  for (int64_t i = 0; i < n; ++i) p[i] = t[i];
}
// Bytes, because callers have no alignment to promise.
KN_INLINE I32 iload(const void* p) {
  auto q = static_cast<const uint8_t*>(p);
  return {vreinterpretq_s32_u8(vld1q_u8(q)), vreinterpretq_s32_u8(vld1q_u8(q + 16)),
          vreinterpretq_s32_u8(vld1q_u8(q + 32)), vreinterpretq_s32_u8(vld1q_u8(q + 48))};
}
KN_INLINE void istore(void* p, I32 x) {
  auto q = static_cast<uint8_t*>(p);
  vst1q_u8(q, vreinterpretq_u8_s32(x.a)), vst1q_u8(q + 16, vreinterpretq_u8_s32(x.b));
  vst1q_u8(q + 32, vreinterpretq_u8_s32(x.c)), vst1q_u8(q + 48, vreinterpretq_u8_s32(x.d));
}
KN_INLINE I32 iota() {
  const int32_t t[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return iload(t);
}
#define KN_FOUR1(name, R, T, f) \
  KN_INLINE R name(T x) { return {f(x.a), f(x.b), f(x.c), f(x.d)}; }
#define KN_FOUR2(name, R, T, f) \
  KN_INLINE R name(T x, T y) { return {f(x.a, y.a), f(x.b, y.b), f(x.c, y.c), f(x.d, y.d)}; }
KN_FOUR2(add, F32, F32, vaddq_f32)
KN_FOUR2(sub, F32, F32, vsubq_f32)
KN_FOUR2(mul, F32, F32, vmulq_f32)
KN_FOUR2(div, F32, F32, vdivq_f32)
KN_FOUR1(sqrt, F32, F32, vsqrtq_f32)
KN_FOUR1(round_even, F32, F32, vrndnq_f32)
KN_FOUR1(bits, I32, F32, vreinterpretq_s32_f32)
KN_FOUR1(from_bits, F32, I32, vreinterpretq_f32_s32)
KN_FOUR1(to_float, F32, I32, vcvtq_f32_s32)
KN_FOUR2(iadd, I32, I32, vaddq_s32)
KN_FOUR2(isub, I32, I32, vsubq_s32)
KN_FOUR2(imul, I32, I32, vmulq_s32)
KN_FOUR2(iand, I32, I32, vandq_s32)
KN_FOUR2(ior, I32, I32, vorrq_s32)
KN_FOUR2(ixor, I32, I32, veorq_s32)
KN_FOUR2(lt, Mask, F32, vcltq_f32)
KN_FOUR2(le, Mask, F32, vcleq_f32)
KN_FOUR2(ilt, Mask, I32, vcltq_s32)
KN_FOUR2(ieq, Mask, I32, vceqq_s32)
KN_INLINE F32 fma(F32 x, F32 y, F32 z) {
  return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c),
          vfmaq_f32(z.d, x.d, y.d)};
}
// A compare sees a denormal as zero, and the sign is all that stays of it.
KN_INLINE float32x4_t flushed(float32x4_t x) {
  const uint32x4_t digits = vandq_u32(vceqzq_f32(x), vdupq_n_u32(0x7fffffff));
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), digits));
}
KN_INLINE float32x4_t max4(float32x4_t x, float32x4_t y) { return flushed(vbslq_f32(vcgtq_f32(x, y), x, y)); }
KN_INLINE float32x4_t min4(float32x4_t x, float32x4_t y) { return flushed(vbslq_f32(vcltq_f32(x, y), x, y)); }
KN_FOUR2(max, F32, F32, max4)
KN_FOUR2(min, F32, F32, min4)
// Nearest even; NaN and what is out of range give the least integer.
KN_INLINE int32x4_t to_int4(float32x4_t x) {
  return vbslq_s32(vcltq_f32(x, vdupq_n_f32(0x1p31f)), vcvtnq_s32_f32(x), vdupq_n_s32(INT32_MIN));
}
KN_FOUR1(to_int, I32, F32, to_int4)
KN_INLINE uint32x4_t unordered4(float32x4_t x) { return vmvnq_u32(vceqq_f32(x, x)); }
KN_FOUR1(unordered, Mask, F32, unordered4)
#undef KN_FOUR1
#undef KN_FOUR2
template <int n> KN_INLINE I32 shl(I32 x) {
  return {vshlq_n_s32(x.a, n), vshlq_n_s32(x.b, n), vshlq_n_s32(x.c, n), vshlq_n_s32(x.d, n)};
}
template <int n> KN_INLINE int32x4_t shr4(int32x4_t x) {
  return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(x), n));
}
template <int n> KN_INLINE I32 shr(I32 x) { return {shr4<n>(x.a), shr4<n>(x.b), shr4<n>(x.c), shr4<n>(x.d)}; }
template <int n> KN_INLINE I32 sar(I32 x) {
  return {vshrq_n_s32(x.a, n), vshrq_n_s32(x.b, n), vshrq_n_s32(x.c, n), vshrq_n_s32(x.d, n)};
}
KN_INLINE F32 select(Mask m, F32 x, F32 y) {
  return {vbslq_f32(m.a, x.a, y.a), vbslq_f32(m.b, x.b, y.b), vbslq_f32(m.c, x.c, y.c), vbslq_f32(m.d, x.d, y.d)};
}
KN_INLINE I32 iselect(Mask m, I32 x, I32 y) {
  return {vbslq_s32(m.a, x.a, y.a), vbslq_s32(m.b, x.b, y.b), vbslq_s32(m.c, x.c, y.c), vbslq_s32(m.d, x.d, y.d)};
}
KN_INLINE bool any(Mask m) { return vmaxvq_u32(vorrq_u32(vorrq_u32(m.a, m.b), vorrq_u32(m.c, m.d))) != 0; }
KN_INLINE I32 load_u16(const void* p) {
  auto q = static_cast<const uint8_t*>(p);
  const uint16x8_t x = vreinterpretq_u16_u8(vld1q_u8(q)), y = vreinterpretq_u16_u8(vld1q_u8(q + 16));
  return {vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(x))), vreinterpretq_s32_u32(vmovl_high_u16(x)),
          vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(y))), vreinterpretq_s32_u32(vmovl_high_u16(y))};
}
KN_INLINE void store_u16(void* p, I32 x) {
  auto q = static_cast<uint8_t*>(p);
  vst1q_u8(q, vreinterpretq_u8_s16(vmovn_high_s32(vmovn_s32(x.a), x.b)));
  vst1q_u8(q + 16, vreinterpretq_u8_s16(vmovn_high_s32(vmovn_s32(x.c), x.d)));
}
KN_INLINE I32 load_i8(const void* p) {
  const int8x16_t t = vld1q_s8(static_cast<const int8_t*>(p));
  const int16x8_t x = vmovl_s8(vget_low_s8(t)), y = vmovl_high_s8(t);
  return {vmovl_s16(vget_low_s16(x)), vmovl_high_s16(x), vmovl_s16(vget_low_s16(y)), vmovl_high_s16(y)};
}
KN_INLINE float sum16(F32 x) {  // lanes i and i+8, then +4, +2, +1
  const float32x4_t q = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
  const float32x2_t h = vadd_f32(vget_low_f32(q), vget_high_f32(q));
  return vget_lane_f32(h, 0) + vget_lane_f32(h, 1);
}

// ------------------------------------------------------------------ bodies of single ops
// acc + the four products of each lane's bytes, w unsigned, a signed: exact.
KN_INLINE int32x4_t dot_bytes4(int32x4_t acc, int32x4_t w, int32x4_t a) {
  const uint8x16_t u = vreinterpretq_u8_s32(w);
  const int8x16_t s = vreinterpretq_s8_s32(a);
  const int16x8_t u0 = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(u))), s0 = vmovl_s8(vget_low_s8(s));
  const int16x8_t u1 = vreinterpretq_s16_u16(vmovl_high_u8(u)), s1 = vmovl_high_s8(s);
  const int32x4_t low = vpaddq_s32(vmull_s16(vget_low_s16(u0), vget_low_s16(s0)), vmull_high_s16(u0, s0));
  const int32x4_t high = vpaddq_s32(vmull_s16(vget_low_s16(u1), vget_low_s16(s1)), vmull_high_s16(u1, s1));
  return vaddq_s32(acc, vpaddq_s32(low, high));
}
KN_INLINE I32 dot_bytes(I32 acc, I32 w, I32 a) {
  return {dot_bytes4(acc.a, w.a, a.a), dot_bytes4(acc.b, w.b, a.b), dot_bytes4(acc.c, w.c, a.c),
          dot_bytes4(acc.d, w.d, a.d)};
}
// p[i] += nearest integer of x[i], |x| < 2^62.
KN_INLINE void add_whole4(int64_t* p, float32x4_t x) {
  const int64x2_t low = vcvtnq_s64_f64(vcvt_f64_f32(vget_low_f32(x))), high = vcvtnq_s64_f64(vcvt_high_f64_f32(x));
  vst1q_s64(p, vaddq_s64(vld1q_s64(p), low));
  vst1q_s64(p + 2, vaddq_s64(vld1q_s64(p + 2), high));
}
// Sums of (w[2j] + key[2j]) (w[2j+1] + key[2j+1]) over 8 words, in two parts.
KN_INLINE uint64x2_t add_products(uint64x2_t sum, int32x4_t w0, int32x4_t w1, const uint32_t* key) {
  const uint32x4_t t0 = vaddq_u32(vreinterpretq_u32_s32(w0), vld1q_u32(key));
  const uint32x4_t t1 = vaddq_u32(vreinterpretq_u32_s32(w1), vld1q_u32(key + 4));
  const uint32x4_t even = vuzp1q_u32(t0, t1), odd = vuzp2q_u32(t0, t1);
  return vmlal_high_u32(vmlal_u32(sum, vget_low_u32(even), vget_low_u32(odd)), even, odd);
}

}  // namespace neon
}  // namespace llmctl::kn
