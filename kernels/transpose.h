// SPDX-License-Identifier: Apache-2.0
// A 16x16 square of 32-bit words held in 16 vectors, transposed. Internal to kernels/.
#pragma once

#include "kernels/simd.h"

namespace llmctl::kn {
namespace KN_NS {

#if KN_ISA >= 2
KN_INLINE void transpose16(I32 (&m)[16]) {
  __m512i a[16], b[16];
  // Words of neighbouring rows side by side, then pairs of words, within each 128-bit lane ...
  for (int i = 0; i < 8; ++i) {
    a[2 * i] = _mm512_unpacklo_epi32(m[2 * i].v, m[2 * i + 1].v);
    a[2 * i + 1] = _mm512_unpackhi_epi32(m[2 * i].v, m[2 * i + 1].v);
  }
  for (int i = 0; i < 4; ++i)
    for (int h = 0; h < 2; ++h) {
      b[4 * i + 2 * h] = _mm512_unpacklo_epi64(a[4 * i + h], a[4 * i + 2 + h]);
      b[4 * i + 2 * h + 1] = _mm512_unpackhi_epi64(a[4 * i + h], a[4 * i + 2 + h]);
    }
  // ... then b[4 i + c] holds column c of each lane's four for rows 4 i .. 4 i + 3: gather lanes.
  for (int c = 0; c < 4; ++c) {
    const __m512i low01 = _mm512_shuffle_i32x4(b[c], b[4 + c], 0x88);
    const __m512i high01 = _mm512_shuffle_i32x4(b[c], b[4 + c], 0xdd);
    const __m512i low23 = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0x88);
    const __m512i high23 = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0xdd);
    m[c].v = _mm512_shuffle_i32x4(low01, low23, 0x88);
    m[8 + c].v = _mm512_shuffle_i32x4(low01, low23, 0xdd);
    m[4 + c].v = _mm512_shuffle_i32x4(high01, high23, 0x88);
    m[12 + c].v = _mm512_shuffle_i32x4(high01, high23, 0xdd);
  }
}
#else
KN_INLINE void transpose16(I32 (&m)[16]) {
  int32_t from[16][16], to[16][16];
  for (int r = 0; r < 16; ++r) istore(from[r], m[r]);
  for (int r = 0; r < 16; ++r)
    for (int c = 0; c < 16; ++c) to[c][r] = from[r][c];
  for (int r = 0; r < 16; ++r) m[r] = iload(to[r]);
}
#endif

}  // namespace KN_NS
}  // namespace llmctl::kn
