// SPDX-License-Identifier: Apache-2.0
#include "kernels/norm.h"

#include "tests/kernels/gradient_check.h"

using namespace llmctl::kn;

namespace {

constexpr double kEps = 1e-5;

// Rows of x normalised, in f64; centered is LayerNorm.
Values normalized(const Values& x, const Values& w, const Values& b, bool centered) {
  const size_t d = w.size();
  Values y(x.size());
  for (size_t at = 0; at < x.size(); at += d) {
    double mean = 0, square = 0;
    if (centered)
      for (size_t i = 0; i < d; ++i) mean += x[at + i] / static_cast<double>(d);
    for (size_t i = 0; i < d; ++i) square += (x[at + i] - mean) * (x[at + i] - mean);
    const double rstd = 1 / std::sqrt(square / static_cast<double>(d) + kEps);
    for (size_t i = 0; i < d; ++i) y[at + i] = (x[at + i] - mean) * rstd * w[i] + b[i];
  }
  return y;
}

struct Case {
  int64_t t, d;
  DType dtype;
  double bound;
};
const Case kCases[] = {{5, 37, DType::f32, 1e-5},
                       {3, 64, DType::f32, 1e-5},
                       {70, 5, DType::f32, 2e-5},
                       {2, 100, DType::bf16, 0.02}};

}  // namespace

TEST_CASE("rmsnorm", "[norm]") {
  for (const Case& c : kCases) {
    INFO(c.t << " x " << c.d << " " << name_of(c.dtype));
    Buffer x(c.dtype, {c.t, c.d}), w(DType::f32, {c.d}), y(c.dtype, {c.t, c.d}), rstd(DType::f32, {c.t});
    x.fill(1, 2), w.fill(2);
    check_same_bits(RmsNormFwd{.x = x, .w = w, .y = y, .rstd = rstd, .eps = 1e-5f}, {&y, &rstd});
    const Values none(static_cast<size_t>(c.d));
    check_close(y, normalized(values_of(x), values_of(w), none, false), c.bound);

    Buffer dy(c.dtype, {c.t, c.d}), dx(c.dtype, {c.t, c.d}), residual(c.dtype, {c.t, c.d});
    dy.fill(3), residual.fill(4);
    for (DType kind : {DType::i64, DType::f32}) {
      Buffer grad(kind, {c.d}), overflow(DType::i32, {1});
      grad.zero(), overflow.zero();
      check_same_bits(RmsNormBwd{.dy = dy,
                                 .x = x,
                                 .w = w,
                                 .rstd = rstd,
                                 .dresidual = residual,
                                 .dx = dx,
                                 .grad = grad,
                                 .parts = 4,
                                 .overflow = overflow},
                      {&dx}, {&grad, &overflow});
      CHECK(overflow.at(0) == 0);
      Values want =
          gradient_by_differences([&](const Values& v) { return normalized(v, values_of(w), none, false); },
                                  values_of(x), values_of(dy));
      for (size_t i = 0; i < want.size(); ++i) want[i] += residual.at(static_cast<int64_t>(i));
      check_close(dx, want, c.bound);
      check_values(
          gradient_values(grad),
          gradient_by_differences([&](const Values& v) { return normalized(values_of(x), v, none, false); },
                                  values_of(w), values_of(dy)),
          1e-4);
    }
  }
}

TEST_CASE("layernorm", "[norm]") {
  for (const Case& c : kCases) {
    INFO(c.t << " x " << c.d << " " << name_of(c.dtype));
    Buffer x(c.dtype, {c.t, c.d}), w(DType::f32, {c.d}), b(DType::f32, {c.d}), y(c.dtype, {c.t, c.d});
    Buffer mean(DType::f32, {c.t}), rstd(DType::f32, {c.t});
    x.fill(1, 2), w.fill(2), b.fill(5);
    for (int64_t i = 0; i < x.size(); ++i) x.set(i, x.at(i) + 3);
    check_same_bits(LayerNormFwd{.x = x, .w = w, .b = b, .y = y, .mean = mean, .rstd = rstd, .eps = 1e-5f},
                    {&y, &mean, &rstd});
    check_close(y, normalized(values_of(x), values_of(w), values_of(b), true), c.bound);

    Buffer dy(c.dtype, {c.t, c.d}), dx(c.dtype, {c.t, c.d});
    Buffer grad_w(DType::i64, {c.d}), grad_b(DType::i64, {c.d}), overflow(DType::i32, {1});
    dy.fill(3), grad_w.zero(), grad_b.zero(), overflow.zero();
    check_same_bits(LayerNormBwd{.dy = dy,
                                 .x = x,
                                 .w = w,
                                 .mean = mean,
                                 .rstd = rstd,
                                 .dresidual = {},
                                 .dx = dx,
                                 .grad_w = grad_w,
                                 .grad_b = grad_b,
                                 .parts = 4,
                                 .overflow = overflow},
                    {&dx}, {&grad_w, &grad_b, &overflow});
    auto of_x = [&](const Values& v) { return normalized(v, values_of(w), values_of(b), true); };
    auto of_w = [&](const Values& v) { return normalized(values_of(x), v, values_of(b), true); };
    auto of_b = [&](const Values& v) { return normalized(values_of(x), values_of(w), v, true); };
    check_close(dx, gradient_by_differences(of_x, values_of(x), values_of(dy)), 2 * c.bound);
    check_values(gradient_values(grad_w), gradient_by_differences(of_w, values_of(w), values_of(dy)), 1e-4);
    check_values(gradient_values(grad_b), gradient_by_differences(of_b, values_of(b), values_of(dy)), 1e-4);
  }
}

TEST_CASE("norm gradients that do not fit are refused", "[norm]") {
  Buffer x(DType::f32, {2, 20}), w(DType::f32, {20}), dy(DType::f32, {2, 20}), dx(DType::f32, {2, 20});
  Buffer rstd(DType::f32, {2}), grad(DType::i64, {20}), overflow(DType::i32, {1});
  x.fill(1), w.fill(2), dy.fill(3), rstd.fill(4), grad.zero(), overflow.zero();
  dy.set(17, 1e9);
  const RmsNormBwd op{
      .dy = dy, .x = x, .w = w, .rstd = rstd, .dresidual = {}, .dx = dx, .grad = grad, .overflow = overflow};
  check_same_bits(op, {&dx}, {&grad, &overflow});
  CHECK(overflow.at(0) == 1);
  CHECK(grad.at(17) == 0);
}

TEST_CASE("norms refuse shapes that disagree", "[norm]") {
  Buffer x(DType::f32, {2, 20}), w(DType::f32, {21}), y(DType::f32, {2, 20});
  CHECK_THROWS_AS(run(RmsNormFwd{.x = x, .w = w, .y = y, .rstd = {}}, test_exec(Isa::portable)),
                  llmctl::Error);
}
