// SPDX-License-Identifier: Apache-2.0
#include "safety/elementary.h"

#include <bit>
#include <cstdint>

namespace llmctl::elementary {
namespace {

constexpr double kLn2High = 6.93147180369123816490e-01;  // 33 bits: n * kLn2High is exact
constexpr double kLn2Low = 1.90821492927058770002e-10;
constexpr double kInverseLn2 = 1.44269504088896338700e+00;

double power_of_two(int64_t n) {
  return std::bit_cast<double>(static_cast<uint64_t>(n + 1023) << 52);
}

}  // namespace

double exp(double x) {
  if (x < -708.0) return 0.0;
  if (x > 709.0) x = 709.0;
  const double scaled = x * kInverseLn2;
  const int64_t n = static_cast<int64_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
  const double r = (x - static_cast<double>(n) * kLn2High) - static_cast<double>(n) * kLn2Low;
  double sum = 1.0;  // Horner over r^k / k!, |r| <= ln(2) / 2
  for (int k = 14; k >= 1; --k) sum = 1.0 + sum * r / static_cast<double>(k);
  return sum * power_of_two(n);
}

double log(double x) {
  uint64_t bits = std::bit_cast<uint64_t>(x);
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  bits = (bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull;
  double m = std::bit_cast<double>(bits);
  if (m > 1.4142135623730951) {  // centre on 1, so that log(1) is exactly 0
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1.0) / (m + 1.0);
  const double square = s * s;
  double sum = 0.0;
  for (int k = 23; k >= 1; k -= 2) sum = sum * square + 1.0 / static_cast<double>(k);
  const double n = static_cast<double>(exponent);
  return n * kLn2High + (2.0 * s * sum + n * kLn2Low);
}

double logistic(double x) {
  if (x >= 0) return 1.0 / (1.0 + exp(-x));
  const double e = exp(x);
  return e / (1.0 + e);
}

double softplus(double x) {
  return x > 0 ? x + log(1.0 + exp(-x)) : log(1.0 + exp(x));
}

}  // namespace llmctl::elementary
