// SPDX-License-Identifier: Apache-2.0
// Elementary functions against long double libm, over floats of every exponent and both signs.
#include "kernels/math.h"

#include "kernels/exec.h"
#include "tests/kernels/op_check.h"

using namespace llmctl::kn;

namespace {

double ulps(long double got, long double want, int mantissa, int least_exponent) {
  int e;
  std::frexp(want, &e);
  if (e < least_exponent) e = least_exponent;
  return static_cast<double>(std::fabs(got - want) / std::ldexp(1.0L, e - mantissa));
}

// Every 9973rd bit pattern from -high to high.
template <class F, class Exact>
double worst_f32(F f, Exact exact, float high) {
  set_denormals_are_zero();
  double worst = 0;
  for (uint64_t b = 0; b < (uint64_t{1} << 32); b += 9973) {
    const float x = math::from_bits(static_cast<int32_t>(b));
    if (!(std::fabs(x) >= 0x1p-126f && std::fabs(x) <= high)) continue;
    const long double want = exact(static_cast<long double>(x));
    if (std::isnan(want)) {
      if (!std::isnan(f(x))) return 1e9;
      continue;
    }
    // Where the exact result is subnormal the answer is 0 or the smallest normal number.
    if (std::fabs(want) < 0x1p-126L) {
      if (std::fabs(f(x)) > 0x1p-126f) return 1e9;
      continue;
    }
    worst = std::max(worst, ulps(f(x), want, 24, -125));
  }
  return worst;
}

template <class F, class Exact>
double worst_f64(F f, Exact exact, double low, double high) {
  double worst = 0;
  for (uint64_t i = 0; i < 40000; ++i) {
    const double x = low + (high - low) * (static_cast<double>(test_bits(7, i) >> 11) * 0x1p-53);
    worst = std::max(worst, ulps(f(x), exact(static_cast<long double>(x)), 53, -1021));
  }
  return worst;
}

}  // namespace

TEST_CASE("f32 functions keep their ULP", "[math]") {
  CHECK(worst_f32([](float x) { return exp(x); }, [](long double x) { return std::exp(x); }, 88.72283f) <
        1.1);
  CHECK(worst_f32([](float x) { return log(x); }, [](long double x) { return std::log(x); }, math::kLargest) <
        1.0);
  CHECK(worst_f32([](float x) { return tanh(x); }, [](long double x) { return std::tanh(x); },
                  math::kLargest) < 1.5);
  CHECK(worst_f32([](float x) { return erf(x); }, [](long double x) { return std::erf(x); }, math::kLargest) <
        1.5);
  auto logistic = [](long double x) { return 1 / (1 + std::exp(-x)); };
  CHECK(worst_f32([](float x) { return sigmoid(x); }, logistic, 87.0f) < 2.5);
  CHECK(worst_f32([](float x) { return silu(x); }, [&](long double x) { return x * logistic(x); }, 87.0f) <
        2.5);
}

TEST_CASE("f32 functions at the ends of their domains", "[math]") {
  const float inf = math::kInfinity, nan = math::kNan;
  CHECK(exp(-inf) == 0.0f);
  CHECK(exp(-88.0f) == 0.0f);
  CHECK(exp(0.0f) == 1.0f);
  CHECK(exp(89.0f) == inf);
  CHECK(exp(inf) == inf);
  CHECK(std::isnan(exp(nan)));
  CHECK(exp(-3e38f) == 0.0f);
  CHECK(exp(3e38f) == inf);
  CHECK(log(0.0f) == -inf);
  CHECK(log(1.0f) == 0.0f);
  CHECK(log(inf) == inf);
  CHECK(std::isnan(log(-1.0f)));
  CHECK(std::isnan(log(nan)));
  CHECK(tanh(inf) == 1.0f);
  CHECK(tanh(-inf) == -1.0f);
  CHECK(std::signbit(tanh(-0.0f)));
  CHECK(std::isnan(tanh(nan)));
  CHECK(erf(inf) == 1.0f);
  CHECK(erf(-inf) == -1.0f);
  CHECK(std::isnan(erf(nan)));
  CHECK(sigmoid(-inf) == 0.0f);
  CHECK(sigmoid(inf) == 1.0f);
  CHECK(silu(-100.0f) == 0.0f);
}

TEST_CASE("f64 functions keep their ULP", "[math]") {
  CHECK(worst_f64([](double x) { return exp64(x); }, [](long double x) { return std::exp(x); }, -708, 709) <
        1.1);
  CHECK(worst_f64([](double x) { return exp64(x); }, [](long double x) { return std::exp(x); }, -1, 1) < 1.1);
  CHECK(worst_f64([](double x) { return log64(x); }, [](long double x) { return std::log(x); }, 0.5, 2) <
        1.0);
  CHECK(worst_f64([](double x) { return log64(x); }, [](long double x) { return std::log(x); }, 0, 1e9) <
        1.0);
  for (double high : {1.0, 100.0, 1e6, 1e9}) {
    CHECK(worst_f64([](double x) { return sin64(x); }, [](long double x) { return std::sin(x); }, -high,
                    high) < 1.6);
    CHECK(worst_f64([](double x) { return cos64(x); }, [](long double x) { return std::cos(x); }, -high,
                    high) < 1.6);
  }
  CHECK(exp64(-INFINITY) == 0.0);
  CHECK(exp64(INFINITY) == INFINITY);
  CHECK(std::isnan(exp64(NAN)));
  CHECK(log64(0.0) == -INFINITY);
  CHECK(log64(INFINITY) == INFINITY);
  CHECK(std::isnan(log64(-1.0)));
  CHECK(std::isnan(log64(NAN)));
}

TEST_CASE("powers", "[math]") {
  double worst = 0;
  for (double base : {0.9, 0.95, 0.999, 0.9999, 1.0001})
    for (int64_t n = 0; n < 6000; n += 7)
      worst =
          std::max(worst, ulps(powint64(base, n), std::pow(static_cast<long double>(base), n), 53, -1021));
  CHECK(worst < 1.1);
  for (double y : {-1.0, -0.5, -0.015625, 0.75}) {
    const double want = static_cast<double>(std::pow(500000.0L, static_cast<long double>(y)));
    CHECK(std::fabs(pow64(500000.0, y) / want - 1) < 41 * 0x1p-53);
  }
}
