// SPDX-License-Identifier: Apache-2.0
// Four products of bytes a lane, exact on every instruction set. Internal to kernels/.
#pragma once

#include "kernels/simd.h"

namespace llmctl::kn {
namespace KN_NS {

// acc + the four products of each lane's bytes, w unsigned, a signed. Exact on every set:
// vpmaddubsw would saturate, so the sets without VNNI widen to 16 bits.
KN_INLINE I32 dot4(I32 acc, I32 w, I32 a) {
#if KN_ISA == 3
  return {_mm512_dpbusd_epi32(acc.v, w.v, a.v)};
#elif KN_ISA == 2
  const __m512i even = _mm512_madd_epi16(_mm512_and_si512(w.v, _mm512_set1_epi16(0xff)),
                                         _mm512_srai_epi16(_mm512_slli_epi16(a.v, 8), 8));
  const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(w.v, 8), _mm512_srai_epi16(a.v, 8));
  return {_mm512_add_epi32(acc.v, _mm512_add_epi32(even, odd))};
#elif KN_ISA == 1
  auto half = [](__m256i c, __m256i u, __m256i s) {
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(0xff)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(s, 8));
    return _mm256_add_epi32(c, _mm256_add_epi32(even, odd));
  };
  return {half(acc.a, w.a, a.a), half(acc.b, w.b, a.b)};
#elif KN_ISA == -1
  return dot_bytes(acc, w, a);
#else
  for (int i = 0; i < 16; ++i)
    for (int b = 0; b < 32; b += 8)
      acc.v[i] += static_cast<int32_t>((u(w.v[i]) >> b) & 0xffu) * static_cast<int8_t>(u(a.v[i]) >> b);
  return acc;
#endif
}

}  // namespace KN_NS
}  // namespace llmctl::kn
