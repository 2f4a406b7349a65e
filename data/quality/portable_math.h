// SPDX-License-Identifier: Apache-2.0
// exp and log in f64 from additions, multiplications and divisions alone: what decides about documents must
// not depend on a machine's libm (NUMERICS rule 8). Within 2 ULP; log of what is not above 0 is -infinity.
// bits: any-cpu
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace llmctl {

inline double portable_exp(double x) {
  if (x != x) return x;
  if (x > 709) return std::numeric_limits<double>::infinity();
  if (x < -708) return 0;
  constexpr double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
  const double scaled = x * 0x1.71547652b82fep+0;
  const auto k = static_cast<int64_t>(scaled + (scaled < 0 ? -.5 : .5));
  const double r = (x - static_cast<double>(k) * ln2_high) - static_cast<double>(k) * ln2_low;
  double sum = 1;
  for (int n = 14; n > 0; --n) sum = 1 + r / n * sum;  // Taylor's series, |r| < .35
  return sum * std::bit_cast<double>(static_cast<uint64_t>(k + 1023) << 52);
}

inline double portable_log(double x) {
  if (!(x > 0)) return -std::numeric_limits<double>::infinity();
  int64_t e = 0;
  if (x < 0x1p-1022) {
    x *= 0x1p54;
    e = -54;
  }
  auto bits = std::bit_cast<uint64_t>(x);
  e += static_cast<int64_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0xFFFFFFFFFFFFFull) | 0x3FF0000000000000ull);
  if (m > 0x1.6a09e667f3bcdp+0) {
    m *= .5;
    ++e;
  }
  const double s = (m - 1) / (m + 1), s2 = s * s;  // log m = 2 atanh s, |s| < .172
  double sum = 0;
  for (int n = 23; n > 0; n -= 2) sum = 1. / n + s2 * sum;
  return 2 * s * sum + static_cast<double>(e) * 0x1.62e42fefa39efp-1;
}

inline double portable_log10(double x) {
  return portable_log(x) * 0x1.bcb7b1526e50ep-2;
}
inline double portable_exp10(double x) {
  return portable_exp(x * 0x1.26bb1bbb55516p+1);
}

}  // namespace llmctl
