// SPDX-License-Identifier: Apache-2.0
// Compiled once per instruction set, as a kernel is.
#include "tests/kernels/lanes.h"

#include "kernels/digest.h"
#include "kernels/fixed.h"
#include "kernels/simd.h"

namespace llmctl::kn {
namespace {

// Zeros, denormals, the smallest normals, ties, the borders of int32, infinities, NaNs.
constexpr uint32_t kCorners[] = {0x00000000, 0x00000001, 0x00000123, 0x007fffff, 0x00800000, 0x00800001, 0x3effffff,
                                 0x3f000000, 0x3f800000, 0x3fc00000, 0x40200000, 0x4b000001, 0x4e800000, 0x4effffff,
                                 0x4f000000, 0x4f000001, 0x5f000000, 0x7f7fffff, 0x7f800000, 0x7fc00000, 0x7fc12345};
constexpr uint64_t kCount = sizeof kCorners / sizeof *kCorners;

// A quarter corners of both signs, a quarter any bits, a half around 1.
KN_INLINE uint32_t pattern(uint64_t stream, uint64_t i) {
  const uint64_t r = mix64(stream << 32 | (i + 1));
  const uint32_t low = static_cast<uint32_t>(r);
  if (r >> 62 == 0) return kCorners[(r >> 32) % kCount] | (low & 0x80000000u);
  return r >> 62 == 1 ? low : (low & 0x83ffffffu) + 0x3e000000u;
}

KN_INLINE void take(uint64_t& sum, uint64_t word) { sum = mix64(sum + word + 0x9E3779B97F4A7C15u); }
KN_INLINE void take(uint64_t& sum, I32 x) {
  int32_t t[kLanes];
  istore(t, x);
  for (int i = 0; i < kLanes; ++i) take(sum, static_cast<uint64_t>(static_cast<uint32_t>(t[i])));
}
KN_INLINE void take(uint64_t& sum, F32 x) { take(sum, iselect(unordered(x), iset1(0x7fc00000), bits(x))); }
KN_INLINE void take(uint64_t& sum, Mask m) { take(sum, iselect(m, iset1(1), iset1(0))); }
KN_INLINE void take(uint64_t& sum, float x) { take(sum, set1(x)); }

struct Inputs {
  F32 a, b, c;
  int64_t n;  // 0..16
};

// Each of these takes its functions in the order of kLaneNames and returns the next place.
uint64_t* take_arithmetic(uint64_t* h, const Inputs& x) {
  take(*h++, add(x.a, x.b));
  take(*h++, sub(x.a, x.b));
  take(*h++, mul(x.a, x.b));
  take(*h++, div(x.a, x.b));
  take(*h++, sqrt(x.a));
  take(*h++, max(x.a, x.b));
  take(*h++, min(x.a, x.b));
  take(*h++, fma(x.a, x.b, x.c));
  take(*h++, round_even(x.a));
  take(*h++, to_int(x.a));
  take(*h++, to_float(bits(x.a)));
  return h;
}
uint64_t* take_integers(uint64_t* h, const Inputs& x) {
  const I32 a = bits(x.a), b = bits(x.b);
  take(*h++, iadd(a, b));
  take(*h++, isub(a, b));
  take(*h++, imul(a, b));
  take(*h++, iand(a, b));
  take(*h++, ior(a, b));
  take(*h++, ixor(a, b));
  take(*h++, shl<5>(a));
  take(*h++, shr<5>(a));
  take(*h++, sar<5>(a));
  take(*h++, lt(x.a, x.b));
  take(*h++, le(x.a, x.b));
  take(*h++, unordered(x.a));
  take(*h++, ilt(a, b));
  take(*h++, ieq(iand(a, iset1(3)), iand(b, iset1(3))));
  take(*h++, static_cast<uint64_t>(any(ilt(bits(x.a), iset1(-0x40000000)))));
  return h;
}
uint64_t* take_moves(uint64_t* h, const Inputs& x) {
  take(*h++, sum16(x.a));
  take(*h++, max16(max(x.a, x.b)));
  take(*h++, dot_pair(x.c, bits(x.a), bits(x.b)));
  take(*h++, round_bf16(x.a));
  float t[kLanes], s[kLanes];
  store(t, x.a);
  take(*h++, bits(load(t, x.n)));
  store(s, x.b);
  store(s, x.a, x.n);
  take(*h++, bits(load(s)));
  take(*h++, load_u16(t));
  store_u16(s, bits(x.c));
  take(*h++, bits(load(s)));
  take(*h++, load_i8(t));
  return h;
}
uint64_t* take_functions(uint64_t* h, const Inputs& x) {
  take(*h++, exp(x.a));
  take(*h++, log(x.a));
  take(*h++, tanh(x.a));
  take(*h++, erf(x.a));
  take(*h++, silu(x.a));
  int64_t sums[kLanes];
  std::memset(sums, 1, sizeof sums);
  FixedAdder adder = fixed_adder(1);
  add_fixed(adder, sums, x.a, x.n);
  for (int64_t s : sums) take(*h, static_cast<uint64_t>(s));
  take(*h++, static_cast<uint64_t>(refused(adder)));
  istore(sums, bits(x.b));
  istore(sums + 8, bits(x.c));
  take(*h++, load_fixed(sums, x.n));
  RowHasher row = row_hasher();
  for (int place = 0; place < 512; place += 16) hash_words(row, iadd(bits(x.a), iset1(place)), place);
  take(*h, sums_of(row).s1);
  take(*h++, sums_of(row).s2);
  return h;
}

}  // namespace

void launch(KN_CPU, const LaneHashes& op, const Exec& ex) {
  parallel_for(ex, 1, [&](int64_t) {
    for (uint64_t i = 0; i < 3000; ++i) {
      float t[3][kLanes];
      for (uint64_t k = 0; k < 3 * kLanes; ++k) {
        uint32_t b = pattern(k, i);
        if (k >= 2 * kLanes && (b & 0x7fffffffu) == 0x00800000u) ++b;  // 2^-126 less a little is the border below
        t[k / kLanes][k % kLanes] = math::from_bits(static_cast<int32_t>(b));
      }
      const Inputs x{load(t[0]), load(t[1]), load(t[2]), static_cast<int64_t>(i % 17)};
      take_functions(take_moves(take_integers(take_arithmetic(op.hashes, x), x), x), x);
    }
    volatile float x = 0x1.000002p-63f, y = 0x1.fffffcp-64f;  // or the compiler multiplies
    const F32 a = set1(x), b = set1(y);
    float t[kLanes];
    store(t, mul(a, b));
    op.border[0] = t[0];
    store(t, fma(a, b, zero()));
    op.border[1] = t[0];
  });
}

}  // namespace llmctl::kn
