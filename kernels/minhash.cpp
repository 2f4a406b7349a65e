// SPDX-License-Identifier: Apache-2.0
// Sixteen functions at a time stay in registers while the set goes by: it is read functions / 16 times,
// out of the nearest cache. With x below 2^32
//   (a x + b mod 2^64) >> 32 = ((a_low x + b mod 2^64) >> 32) + a_high x   mod 2^32
// because a_low x + b drops the same carry out of 64 bits; so two widening products of eight lanes and one
// 32-bit product of sixteen make sixteen hashes.
#include "kernels/minhash.h"

#include "kernels/simd.h"

namespace llmctl::kn {
namespace KN_NS {
void minhash(const MinhashFamily& family, const uint32_t* x, int64_t n, uint32_t* minima);
}

#if KN_ONCE
namespace avx2 {
void minhash(const MinhashFamily& family, const uint32_t* x, int64_t n, uint32_t* minima);
}
namespace avx512 {
void minhash(const MinhashFamily& family, const uint32_t* x, int64_t n, uint32_t* minima);
}
namespace neon {
void minhash(const MinhashFamily& family, const uint32_t* x, int64_t n, uint32_t* minima);
}

void minhash(Isa isa, const MinhashFamily& family, const uint32_t* x, int64_t n, uint32_t* minima) {
  switch (isa) {
    case Isa::portable:
      return portable::minhash(family, x, n, minima);
#ifdef __aarch64__
    case Isa::neon:
      return neon::minhash(family, x, n, minima);
#else
    case Isa::avx2:
      return avx2::minhash(family, x, n, minima);
    case Isa::avx512:
    case Isa::avx512_bf16:
    case Isa::amx:
      return avx512::minhash(family, x, n, minima);
#endif
  }
}
#endif

namespace {

#if KN_ISA >= 2
// Lanes 2j of `even` and 2j + 1 of `odd` hold functions 2j and 2j + 1 in 64 bits.
void minhash16(const MinhashFamily& f, int64_t at, const uint32_t* x, int64_t n, uint32_t* minima) {
  const __m512i low = _mm512_loadu_si512(f.a_low + at), high = _mm512_loadu_si512(f.a_high + at);
  const __m512i low_odd = _mm512_srli_epi64(low, 32);
  const __m512i b0 = _mm512_loadu_si512(f.b + at), b1 = _mm512_loadu_si512(f.b + at + 8);
  const __m512i evens = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
  const __m512i odds = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
  const __m512i b_even = _mm512_permutex2var_epi64(b0, evens, b1),
                b_odd = _mm512_permutex2var_epi64(b0, odds, b1);
  __m512i least = _mm512_set1_epi32(-1);
  for (int64_t i = 0; i < n; ++i) {
    const __m512i v = _mm512_set1_epi32(static_cast<int32_t>(x[i]));
    const __m512i even = _mm512_add_epi64(_mm512_mul_epu32(low, v), b_even);
    const __m512i odd = _mm512_add_epi64(_mm512_mul_epu32(low_odd, v), b_odd);
    const __m512i top = _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xAAAA, odd);
    least = _mm512_min_epu32(least, _mm512_add_epi32(top, _mm512_mullo_epi32(high, v)));
  }
  _mm512_storeu_si512(minima + at, least);
}
#elif KN_ISA == 1
void minhash8(const MinhashFamily& f, int64_t at, const uint32_t* x, int64_t n, uint32_t* minima) {
  const auto ints = [&](const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); };
  const __m256i low = ints(f.a_low + at), high = ints(f.a_high + at), low_odd = _mm256_srli_epi64(low, 32);
  const uint64_t* b = f.b + at;
  const auto sign = [](uint64_t v) { return static_cast<int64_t>(v); };
  const __m256i b_even = _mm256_setr_epi64x(sign(b[0]), sign(b[2]), sign(b[4]), sign(b[6]));
  const __m256i b_odd = _mm256_setr_epi64x(sign(b[1]), sign(b[3]), sign(b[5]), sign(b[7]));
  __m256i least = _mm256_set1_epi32(-1);
  for (int64_t i = 0; i < n; ++i) {
    const __m256i v = _mm256_set1_epi32(static_cast<int32_t>(x[i]));
    const __m256i even = _mm256_add_epi64(_mm256_mul_epu32(low, v), b_even);
    const __m256i odd = _mm256_add_epi64(_mm256_mul_epu32(low_odd, v), b_odd);
    const __m256i top = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
    least = _mm256_min_epu32(least, _mm256_add_epi32(top, _mm256_mullo_epi32(high, v)));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(minima + at), least);
}
void minhash16(const MinhashFamily& f, int64_t at, const uint32_t* x, int64_t n, uint32_t* minima) {
  minhash8(f, at, x, n, minima);
  minhash8(f, at + 8, x, n, minima);
}
#else
void minhash16(const MinhashFamily& f, int64_t at, const uint32_t* x, int64_t n, uint32_t* minima) {
  for (int64_t j = at; j < at + 16; ++j) {
    const uint64_t a = static_cast<uint64_t>(f.a_high[j]) << 32 | f.a_low[j], b = f.b[j];
    uint32_t least = ~uint32_t{0};
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t h = static_cast<uint32_t>((a * x[i] + b) >> 32);
      least = h < least ? h : least;
    }
    minima[j] = least;
  }
}
#endif

}  // namespace

void KN_NS::minhash(const MinhashFamily& family, const uint32_t* x, int64_t n, uint32_t* minima) {
  for (int64_t at = 0; at < family.functions; at += 16) minhash16(family, at, x, n, minima);
}

}  // namespace llmctl::kn
