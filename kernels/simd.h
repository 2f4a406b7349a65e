// SPDX-License-Identifier: Apache-2.0
// Sixteen lanes of f32 on every instruction set: one zmm, two ymm, four NEON
// vectors (simd_neon.h) or sixteen scalars. Bodies written with these types have the same bits everywhere, because every function here is
// elementwise and exact, or a tree with fixed shape (sum16). Compiled once per instruction set
// with KN_ISA = 0 (portable), 1 (avx2), 2 (avx512), 3 (avx512_bf16), -1 (neon); everything lives in a
// namespace of that set. Never include it from code that is compiled once.
//
// Conventions: `mask` counts lanes: load(p, n) reads n <= 16 values and fills with +0.
// bf16 rounding is nearest-even, denormals to zero, NaN kept quiet.
#pragma once

#ifndef KN_ISA
#error "simd.h is for sources compiled once per instruction set"
#endif

#ifdef __aarch64__
#include <arm_neon.h>
#else
#include <immintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/op.h"

#if KN_ISA == 0
#define KN_NS portable
#elif KN_ISA == -1
#define KN_NS neon
#elif KN_ISA == 1
#define KN_NS avx2
#elif KN_ISA == 2
#define KN_NS avx512
#else
#define KN_NS avx512_bf16
#endif
#define KN_CPU Cpu<Isa::KN_NS>
#define KN_ONCE (KN_ISA == 0)
#define KN_INLINE static inline __attribute__((always_inline))
#if KN_ISA == -1
#include "kernels/simd_neon.h"
#endif

namespace llmctl::kn {
namespace KN_NS {

constexpr int kLanes = 16;

#if KN_ISA == -1  // simd_neon.h
#elif KN_ISA >= 2
// ------------------------------------------------------------------ AVX-512
struct F32 { __m512 v; };
struct I32 { __m512i v; };
struct Mask { __mmask16 v; };

KN_INLINE __mmask16 first(int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffffu : (1u << n) - 1u);
}
KN_INLINE F32 zero() { return {_mm512_setzero_ps()}; }
KN_INLINE F32 set1(float x) { return {_mm512_set1_ps(x)}; }
KN_INLINE I32 iset1(int32_t x) { return {_mm512_set1_epi32(x)}; }
KN_INLINE I32 iota() {
  return {_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
}
KN_INLINE F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
KN_INLINE F32 load(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
KN_INLINE void store(float* p, F32 a) { _mm512_storeu_ps(p, a.v); }
KN_INLINE void store(float* p, F32 a, int64_t n) { _mm512_mask_storeu_ps(p, first(n), a.v); }
KN_INLINE I32 iload(const void* p) { return {_mm512_loadu_si512(p)}; }
KN_INLINE void istore(void* p, I32 a) { _mm512_storeu_si512(p, a.v); }
KN_INLINE F32 add(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
KN_INLINE F32 sub(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
KN_INLINE F32 mul(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
KN_INLINE F32 div(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
KN_INLINE F32 sqrt(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
KN_INLINE F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
KN_INLINE F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
KN_INLINE F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
KN_INLINE F32 round_even(F32 a) { return {_mm512_roundscale_ps(a.v, 8)}; }
KN_INLINE I32 bits(F32 a) { return {_mm512_castps_si512(a.v)}; }
KN_INLINE F32 from_bits(I32 a) { return {_mm512_castsi512_ps(a.v)}; }
KN_INLINE I32 to_int(F32 a) { return {_mm512_cvtps_epi32(a.v)}; }  // nearest even
KN_INLINE F32 to_float(I32 a) { return {_mm512_cvtepi32_ps(a.v)}; }
KN_INLINE I32 iadd(I32 a, I32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
KN_INLINE I32 isub(I32 a, I32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
KN_INLINE I32 imul(I32 a, I32 b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
KN_INLINE I32 iand(I32 a, I32 b) { return {_mm512_and_si512(a.v, b.v)}; }
KN_INLINE I32 ior(I32 a, I32 b) { return {_mm512_or_si512(a.v, b.v)}; }
KN_INLINE I32 ixor(I32 a, I32 b) { return {_mm512_xor_si512(a.v, b.v)}; }
template <int n> KN_INLINE I32 shl(I32 a) { return {_mm512_slli_epi32(a.v, n)}; }
template <int n> KN_INLINE I32 shr(I32 a) { return {_mm512_srli_epi32(a.v, n)}; }
template <int n> KN_INLINE I32 sar(I32 a) { return {_mm512_srai_epi32(a.v, n)}; }
KN_INLINE Mask lt(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
KN_INLINE Mask le(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
KN_INLINE Mask unordered(F32 a) { return {_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q)}; }
KN_INLINE Mask ilt(I32 a, I32 b) { return {_mm512_cmplt_epi32_mask(a.v, b.v)}; }
KN_INLINE Mask ieq(I32 a, I32 b) { return {_mm512_cmpeq_epi32_mask(a.v, b.v)}; }
// mask ? a : b
KN_INLINE F32 select(Mask m, F32 a, F32 b) { return {_mm512_mask_blend_ps(m.v, b.v, a.v)}; }
KN_INLINE I32 iselect(Mask m, I32 a, I32 b) { return {_mm512_mask_blend_epi32(m.v, b.v, a.v)}; }
KN_INLINE bool any(Mask m) { return m.v != 0; }
// 16 values of 16 bits, zero-extended; low halves of the lanes back.
KN_INLINE I32 load_u16(const void* p) {
  return {_mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
}
KN_INLINE void store_u16(void* p, I32 a) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(a.v));
}
KN_INLINE I32 load_i8(const void* p) {
  return {_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)))};
}
// Past the caches, for what is not read again soon: p is a cache line. end_streams() before another
// thread may read.
#define KN_STREAMS 1
KN_INLINE void stream(void* p, I32 a) { _mm512_stream_si512(static_cast<__m512i*>(p), a.v); }
KN_INLINE void end_streams() { _mm_sfence(); }
KN_INLINE float sum16(F32 a) {  // lanes i and i+8, then +4, +2, +1
  __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
#elif KN_ISA == 1
// ------------------------------------------------------------------ AVX2
struct F32 { __m256 a, b; };
struct I32 { __m256i a, b; };
struct Mask { __m256 a, b; };

KN_INLINE F32 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
KN_INLINE F32 set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
KN_INLINE I32 iset1(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
KN_INLINE I32 iota() {
  return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
}
KN_INLINE F32 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
KN_INLINE F32 load(const float* p, int64_t n) {
  if (n >= 16) return load(p);
  alignas(32) float t[16] = {};
  for (int64_t i = 0; i < n; ++i) t[i] = p[i];
  return load(t);
}
KN_INLINE void store(float* p, F32 x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
KN_INLINE void store(float* p, F32 x, int64_t n) {
  if (n >= 16) return store(p, x);
  alignas(32) float t[16];
  store(t, x);
  for (int64_t i = 0; i < n; ++i) p[i] = t[i];
}
KN_INLINE I32 iload(const void* p) {
  auto q = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
KN_INLINE void istore(void* p, I32 x) {
  auto q = static_cast<__m256i*>(p);
  _mm256_storeu_si256(q, x.a);
  _mm256_storeu_si256(q + 1, x.b);
}
#define KN_BOTH2(name, R, T, intrinsic) \
  KN_INLINE R name(T x, T y) { return {intrinsic(x.a, y.a), intrinsic(x.b, y.b)}; }
KN_BOTH2(add, F32, F32, _mm256_add_ps)
KN_BOTH2(sub, F32, F32, _mm256_sub_ps)
KN_BOTH2(mul, F32, F32, _mm256_mul_ps)
KN_BOTH2(div, F32, F32, _mm256_div_ps)
KN_BOTH2(max, F32, F32, _mm256_max_ps)
KN_BOTH2(min, F32, F32, _mm256_min_ps)
KN_BOTH2(iadd, I32, I32, _mm256_add_epi32)
KN_BOTH2(isub, I32, I32, _mm256_sub_epi32)
KN_BOTH2(imul, I32, I32, _mm256_mullo_epi32)
KN_BOTH2(iand, I32, I32, _mm256_and_si256)
KN_BOTH2(ior, I32, I32, _mm256_or_si256)
KN_BOTH2(ixor, I32, I32, _mm256_xor_si256)
#undef KN_BOTH2
KN_INLINE F32 sqrt(F32 x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
KN_INLINE F32 fma(F32 x, F32 y, F32 z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
KN_INLINE F32 round_even(F32 x) { return {_mm256_round_ps(x.a, 8), _mm256_round_ps(x.b, 8)}; }
KN_INLINE I32 bits(F32 x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
KN_INLINE F32 from_bits(I32 x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
KN_INLINE I32 to_int(F32 x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
KN_INLINE F32 to_float(I32 x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
template <int n> KN_INLINE I32 shl(I32 x) { return {_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)}; }
template <int n> KN_INLINE I32 shr(I32 x) { return {_mm256_srli_epi32(x.a, n), _mm256_srli_epi32(x.b, n)}; }
template <int n> KN_INLINE I32 sar(I32 x) { return {_mm256_srai_epi32(x.a, n), _mm256_srai_epi32(x.b, n)}; }
KN_INLINE Mask lt(F32 x, F32 y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)};
}
KN_INLINE Mask le(F32 x, F32 y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_LE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LE_OQ)};
}
KN_INLINE Mask unordered(F32 x) {
  return {_mm256_cmp_ps(x.a, x.a, _CMP_UNORD_Q), _mm256_cmp_ps(x.b, x.b, _CMP_UNORD_Q)};
}
KN_INLINE Mask ilt(I32 x, I32 y) {
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(y.a, x.a)), _mm256_castsi256_ps(_mm256_cmpgt_epi32(y.b, x.b))};
}
KN_INLINE Mask ieq(I32 x, I32 y) {
  return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(y.a, x.a)), _mm256_castsi256_ps(_mm256_cmpeq_epi32(y.b, x.b))};
}
KN_INLINE F32 select(Mask m, F32 x, F32 y) {
  return {_mm256_blendv_ps(y.a, x.a, m.a), _mm256_blendv_ps(y.b, x.b, m.b)};
}
KN_INLINE I32 iselect(Mask m, I32 x, I32 y) { return bits(select(m, from_bits(x), from_bits(y))); }
KN_INLINE bool any(Mask m) { return (_mm256_movemask_ps(m.a) | _mm256_movemask_ps(m.b)) != 0; }
KN_INLINE I32 load_u16(const void* p) {
  auto q = static_cast<const __m128i*>(p);
  return {_mm256_cvtepu16_epi32(_mm_loadu_si128(q)), _mm256_cvtepu16_epi32(_mm_loadu_si128(q + 1))};
}
KN_INLINE void store_u16(void* p, I32 x) {
  __m256i low = _mm256_set1_epi32(0xffff);
  __m256i t = _mm256_packus_epi32(_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low));
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_permute4x64_epi64(t, 0xd8));
}
KN_INLINE I32 load_i8(const void* p) {
  __m128i t = _mm_loadu_si128(static_cast<const __m128i*>(p));
  return {_mm256_cvtepi8_epi32(t), _mm256_cvtepi8_epi32(_mm_srli_si128(t, 8))};
}
KN_INLINE float sum16(F32 x) {
  __m256 h = _mm256_add_ps(x.a, x.b);
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
#else
// ------------------------------------------------------------------ scalar with FMA
struct F32 { float v[16]; };
struct I32 { int32_t v[16]; };
struct Mask { bool v[16]; };

#define KN_EACH(R, expr)                    \
  R r;                                      \
  for (int i = 0; i < 16; ++i) r.v[i] = (expr); \
  return r;
KN_INLINE F32 zero() { KN_EACH(F32, 0.0f) }
KN_INLINE F32 set1(float x) { KN_EACH(F32, x) }
KN_INLINE I32 iset1(int32_t x) { KN_EACH(I32, x) }
KN_INLINE I32 iota() { KN_EACH(I32, i) }
KN_INLINE F32 load(const float* p) { KN_EACH(F32, p[i]) }
KN_INLINE F32 load(const float* p, int64_t n) { KN_EACH(F32, i < n ? p[i] : 0.0f) }
KN_INLINE void store(float* p, F32 a) { for (int i = 0; i < 16; ++i) p[i] = a.v[i]; }
KN_INLINE void store(float* p, F32 a, int64_t n) {
  for (int i = 0; i < 16 && i < n; ++i) p[i] = a.v[i];
}
KN_INLINE I32 iload(const void* p) { I32 r; std::memcpy(r.v, p, 64); return r; }
KN_INLINE void istore(void* p, I32 a) { std::memcpy(p, a.v, 64); }
KN_INLINE F32 add(F32 a, F32 b) { KN_EACH(F32, a.v[i] + b.v[i]) }
KN_INLINE F32 sub(F32 a, F32 b) { KN_EACH(F32, a.v[i] - b.v[i]) }
KN_INLINE F32 mul(F32 a, F32 b) { KN_EACH(F32, a.v[i] * b.v[i]) }
KN_INLINE F32 div(F32 a, F32 b) { KN_EACH(F32, a.v[i] / b.v[i]) }
KN_INLINE F32 sqrt(F32 a) { KN_EACH(F32, __builtin_sqrtf(a.v[i])) }
#ifdef __aarch64__  // the same corners as simd_neon.h
KN_INLINE float flushed(float x) {
  uint32_t b;
  std::memcpy(&b, &x, 4);
  b &= x == 0.0f ? 0x80000000u : 0xffffffffu;
  std::memcpy(&x, &b, 4);
  return x;
}
KN_INLINE float round1(float x) { return __builtin_roundevenf(x); }
KN_INLINE int32_t to_int1(float x) { return x < 0x1p31f ? vcvtns_s32_f32(x) : INT32_MIN; }
#else
KN_INLINE float flushed(float x) { return x; }
KN_INLINE float round1(float x) {
  return _mm_cvtss_f32(_mm_round_ss(_mm_set_ss(x), _mm_set_ss(x), 8));
}
KN_INLINE int32_t to_int1(float x) { return _mm_cvtss_si32(_mm_set_ss(x)); }
#endif
KN_INLINE F32 max(F32 a, F32 b) { KN_EACH(F32, flushed(a.v[i] > b.v[i] ? a.v[i] : b.v[i])) }
KN_INLINE F32 min(F32 a, F32 b) { KN_EACH(F32, flushed(a.v[i] < b.v[i] ? a.v[i] : b.v[i])) }
KN_INLINE F32 fma(F32 a, F32 b, F32 c) { KN_EACH(F32, __builtin_fmaf(a.v[i], b.v[i], c.v[i])) }
KN_INLINE F32 round_even(F32 a) { KN_EACH(F32, round1(a.v[i])) }
KN_INLINE I32 bits(F32 a) { I32 r; std::memcpy(&r, &a, 64); return r; }
KN_INLINE F32 from_bits(I32 a) { F32 r; std::memcpy(&r, &a, 64); return r; }
KN_INLINE I32 to_int(F32 a) { KN_EACH(I32, to_int1(a.v[i])) }
KN_INLINE F32 to_float(I32 a) { KN_EACH(F32, static_cast<float>(a.v[i])) }
KN_INLINE int32_t wrap(uint32_t x) { return static_cast<int32_t>(x); }
KN_INLINE uint32_t u(int32_t x) { return static_cast<uint32_t>(x); }
KN_INLINE I32 iadd(I32 a, I32 b) { KN_EACH(I32, wrap(u(a.v[i]) + u(b.v[i]))) }
KN_INLINE I32 isub(I32 a, I32 b) { KN_EACH(I32, wrap(u(a.v[i]) - u(b.v[i]))) }
KN_INLINE I32 imul(I32 a, I32 b) { KN_EACH(I32, wrap(u(a.v[i]) * u(b.v[i]))) }
KN_INLINE I32 iand(I32 a, I32 b) { KN_EACH(I32, a.v[i] & b.v[i]) }
KN_INLINE I32 ior(I32 a, I32 b) { KN_EACH(I32, a.v[i] | b.v[i]) }
KN_INLINE I32 ixor(I32 a, I32 b) { KN_EACH(I32, a.v[i] ^ b.v[i]) }
template <int n> KN_INLINE I32 shl(I32 a) { KN_EACH(I32, wrap(u(a.v[i]) << n)) }
template <int n> KN_INLINE I32 shr(I32 a) { KN_EACH(I32, wrap(u(a.v[i]) >> n)) }
template <int n> KN_INLINE I32 sar(I32 a) { KN_EACH(I32, a.v[i] >> n) }
KN_INLINE Mask lt(F32 a, F32 b) { KN_EACH(Mask, a.v[i] < b.v[i]) }
KN_INLINE Mask le(F32 a, F32 b) { KN_EACH(Mask, a.v[i] <= b.v[i]) }
KN_INLINE Mask unordered(F32 a) { KN_EACH(Mask, a.v[i] != a.v[i]) }
KN_INLINE Mask ilt(I32 a, I32 b) { KN_EACH(Mask, a.v[i] < b.v[i]) }
KN_INLINE Mask ieq(I32 a, I32 b) { KN_EACH(Mask, a.v[i] == b.v[i]) }
KN_INLINE F32 select(Mask m, F32 a, F32 b) { KN_EACH(F32, m.v[i] ? a.v[i] : b.v[i]) }
KN_INLINE I32 iselect(Mask m, I32 a, I32 b) { KN_EACH(I32, m.v[i] ? a.v[i] : b.v[i]) }
KN_INLINE bool any(Mask m) {
  bool r = false;
  for (int i = 0; i < 16; ++i) r |= m.v[i];
  return r;
}
KN_INLINE I32 load_u16(const void* p) {
  uint16_t t[16];
  std::memcpy(t, p, 32);
  KN_EACH(I32, t[i])
}
KN_INLINE void store_u16(void* p, I32 a) {
  uint16_t t[16];
  for (int i = 0; i < 16; ++i) t[i] = static_cast<uint16_t>(a.v[i]);
  std::memcpy(p, t, 32);
}
KN_INLINE I32 load_i8(const void* p) {
  int8_t t[16];
  std::memcpy(t, p, 16);
  KN_EACH(I32, t[i])
}
KN_INLINE float sum16(F32 a) {
  for (int w = 8; w > 0; w /= 2)
    for (int i = 0; i < w; ++i) a.v[i] += a.v[i + w];
  return a.v[0];
}
#undef KN_EACH
#endif

// ------------------------------------------------------------------ on every instruction set
#ifndef KN_STREAMS
KN_INLINE void stream(void* p, I32 a) { istore(p, a); }
KN_INLINE void end_streams() {}
#endif
KN_INLINE float max16(F32 a) {
  float t[16];
  store(t, a);
  float m = t[0];
  for (int i = 1; i < 16; ++i) m = t[i] > m ? t[i] : m;
  return m;
}
// fma(a0,b0, fma(a1,b1,acc)) per lane, where a lane of a and b is a pair of bf16, element 0 in the
// low half: what vdpbf16ps does under DAZ and FTZ (NUMERICS rule 6).
KN_INLINE F32 dot_pair(F32 acc, I32 a, I32 b) {
#if KN_ISA == 3
  return {_mm512_dpbf16_ps(acc.v, (__m512bh)a.v, (__m512bh)b.v)};
#else
  I32 high = iset1(static_cast<int32_t>(0xffff0000u));
  acc = fma(from_bits(iand(a, high)), from_bits(iand(b, high)), acc);
  return fma(from_bits(shl<16>(a)), from_bits(shl<16>(b)), acc);
#endif
}
// Lanes widened from bf16 / rounded to bf16 in the low halves.
KN_INLINE F32 load_bf16(const bf16_t* p) { return from_bits(shl<16>(load_u16(p))); }
KN_INLINE F32 load_bf16(const bf16_t* p, int64_t n) {
  if (n >= 16) return load_bf16(p);
  bf16_t t[16] = {};
  for (int64_t i = 0; i < n; ++i) t[i] = p[i];
  return load_bf16(t);
}
KN_INLINE I32 round_bf16(F32 x) {
#if KN_ISA == 3  // the instruction does just this
  return {_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x.v))};
#else
  // Integer arithmetic sees denormals, so they are flushed by hand, sign kept.
  I32 b = bits(x);
  I32 odd = iand(shr<16>(b), iset1(1));
  I32 r = shr<16>(iadd(b, iadd(odd, iset1(0x7fff))));
  I32 exponent = iand(b, iset1(0x7f800000));
  r = iselect(ieq(exponent, iset1(0)), shl<15>(shr<31>(b)), r);
  return iselect(unordered(x), ior(shr<16>(b), iset1(0x40)), r);
#endif
}
KN_INLINE void store_bf16(bf16_t* p, F32 x) {
#if KN_ISA == 3
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(x.v));
#else
  store_u16(p, round_bf16(x));
#endif
}
KN_INLINE void store_bf16(bf16_t* p, F32 x, F32 y) {  // 32 values: one cache line where p is aligned
#if KN_ISA == 3
  _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(y.v, x.v));
#else
  store_bf16(p, x);
  store_bf16(p + 16, y);
#endif
}
KN_INLINE void store_bf16(bf16_t* p, F32 x, int64_t n) {
  if (n >= 16) return store_bf16(p, x);
  bf16_t t[16];
  store_bf16(t, x);
  for (int64_t i = 0; i < n; ++i) p[i] = t[i];
}
KN_INLINE float widen(bf16_t x) {
  uint32_t b = static_cast<uint32_t>(x) << 16;
  float f;
  std::memcpy(&f, &b, 4);
  return f;
}
KN_INLINE bf16_t narrow(float x) {  // round_bf16 of one value
  uint32_t b;
  std::memcpy(&b, &x, 4);
  if ((b & 0x7f800000u) == 0) return static_cast<bf16_t>((b >> 31) << 15);
  if ((b & 0x7fffffffu) > 0x7f800000u) return static_cast<bf16_t>((b >> 16) | 0x40);
  return static_cast<bf16_t>((b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
}
// A row element-type switch: f32 or bf16 storage, f32 arithmetic.
KN_INLINE F32 load_row(const float* p, int64_t n) { return load(p, n); }
KN_INLINE F32 load_row(const bf16_t* p, int64_t n) { return load_bf16(p, n); }
KN_INLINE void store_row(float* p, F32 x, int64_t n) { store(p, x, n); }
KN_INLINE void store_row(bf16_t* p, F32 x, int64_t n) { store_bf16(p, x, n); }

}  // namespace KN_NS
using namespace KN_NS;
}  // namespace llmctl::kn
