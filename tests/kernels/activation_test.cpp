// SPDX-License-Identifier: Apache-2.0
#include "kernels/activation.h"

#include "kernels/pointwise.h"
#include "tests/kernels/gradient_check.h"

using namespace llmctl::kn;

namespace {

double exact_silu(double x) {
  return x / (1 + std::exp(-x));
}
double exact_gelu(double x, GeluKind kind) {
  if (kind == GeluKind::erf) return 0.5 * x * (1 + std::erf(x * std::sqrt(0.5)));
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

Values swiglu(const Values& x, int64_t t, int64_t f) {
  Values y(static_cast<size_t>(t * f));
  for (int64_t r = 0; r < t; ++r)
    for (int64_t i = 0; i < f; ++i)
      y[static_cast<size_t>(r * f + i)] =
          exact_silu(x[static_cast<size_t>(r * 2 * f + i)]) * x[static_cast<size_t>(r * 2 * f + f + i)];
  return y;
}

}  // namespace

TEST_CASE("swiglu", "[activation]") {
  for (DType dtype : {DType::f32, DType::bf16}) {
    const int64_t t = 4, f = 53;
    const double bound = dtype == DType::f32 ? 1e-6 : 0.01;
    Buffer x(dtype, {t, 2 * f}), y(dtype, {t, f}), dy(dtype, {t, f}), dx(dtype, {t, 2 * f});
    x.fill(1, 3), dy.fill(2);
    check_same_bits(SwigluFwd{.x = x, .y = y}, {&y});
    check_close(y, swiglu(values_of(x), t, f), bound);
    check_same_bits(SwigluBwd{.x = x, .dy = dy, .dx = dx}, {&dx});
    auto forward = [&](const Values& v) { return swiglu(v, t, f); };
    check_close(dx, gradient_by_differences(forward, values_of(x), values_of(dy)), bound);

    Buffer in_place(dtype, {t, 2 * f});
    std::memcpy(in_place.view().data, x.view().data, static_cast<size_t>(x.bytes()));
    run(SwigluBwd{.x = in_place, .dy = dy, .dx = in_place}, test_exec(supported_isas().front(), 2));
    CHECK(std::memcmp(in_place.view().data, dx.view().data, static_cast<size_t>(dx.bytes())) == 0);
  }
}

TEST_CASE("gelu", "[activation]") {
  for (GeluKind kind : {GeluKind::tanh, GeluKind::erf})
    for (DType dtype : {DType::f32, DType::bf16}) {
      const double bound = dtype == DType::f32 ? 3e-6 : 0.01;  // 1 + tanh cancels
      Buffer x(dtype, {7, 43}), y(dtype, {7, 43}), dy(dtype, {7, 43}), dx(dtype, {7, 43});
      x.fill(1, 2), dy.fill(2);
      check_same_bits(GeluFwd{.x = x, .y = y, .kind = kind}, {&y});
      Values want = values_of(x);
      for (double& v : want) v = exact_gelu(v, kind);
      check_close(y, want, bound);
      check_same_bits(GeluBwd{.x = x, .dy = dy, .dx = dx, .kind = kind}, {&dx});
      Values slopes = values_of(x);
      for (size_t i = 0; i < slopes.size(); ++i) {
        const double at = slopes[i];
        slopes[i] = (exact_gelu(at + 1e-5, kind) - exact_gelu(at - 1e-5, kind)) / 2e-5 *
                    dy.at(static_cast<int64_t>(i));
      }
      check_close(dx, slopes, bound);
    }
}

// The vector functions are the scalar ones: silu, tanh, erf and exp over every exponent.
TEST_CASE("lanes have the bits of the scalar functions", "[activation][math]") {
  const int64_t n = 16384;
  Buffer x(DType::f32, {1, 2 * n}), y(DType::f32, {1, n}), z(DType::f32, {1, n}), dz(DType::f32, {1, n});
  View half = x.view();
  half.dim[1] = n;
  for (int64_t i = 0; i < n; ++i) {
    const float v = math::from_bits(static_cast<int32_t>(static_cast<uint32_t>(i) * 262139u));
    x.as<float>()[i] =
        std::fabs(v) < 1e18f ? v : static_cast<float>(test_normal(1, static_cast<uint64_t>(i))) * 30;
    x.set(n + i, 1);
  }
  set_denormals_are_zero();
  for (Isa isa : supported_isas()) {
    INFO(name_of(isa));
    run(SwigluFwd{.x = x, .y = y}, test_exec(isa));
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; ++i) wrong += y.as<int32_t>()[i] != math::bits(silu(x.as<float>()[i]) * 1.0f);
    CHECK(wrong == 0);
    for (GeluKind kind : {GeluKind::tanh, GeluKind::erf}) {
      run(GeluFwd{.x = half, .y = y, .kind = kind}, test_exec(isa));
      for (int64_t i = 0; i < n; ++i) {
        const float v = x.as<float>()[i];
        const float want = kind == GeluKind::tanh ? math::GeluTanh::value(v) : math::GeluErf::value(v);
        wrong += y.as<int32_t>()[i] != math::bits(want);
      }
      CHECK(wrong == 0);
    }
    for (int64_t i = 0; i < n; ++i) z.set(i, 1);
    run(GeluBwd{.x = half, .dy = z, .dx = dz, .kind = GeluKind::erf}, test_exec(isa));
    for (int64_t i = 0; i < n; ++i)
      wrong += dz.as<int32_t>()[i] != math::bits(math::GeluErf::slope(x.as<float>()[i]) * 1.0f);
    CHECK(wrong == 0);
  }
}
