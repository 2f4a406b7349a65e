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

namespace {
View rows_from(const Buffer& b, int64_t begin, int64_t rows) {
  const View& v = b.view();
  return View(b.as<char>() + begin * v.cols() * size_of(v.dtype), v.dtype, {rows, v.cols()});
}
View elements_from(const Buffer& b, int64_t begin, int64_t n) { return View(b.as<float>() + begin, DType::f32, {n}); }
bool same(const Buffer& a, const Buffer& b) { return std::memcmp(a.as<char>(), b.as<char>(), static_cast<size_t>(a.bytes())) == 0; }
}  // namespace

TEST_CASE("gradients of norms whose rows come in pieces are those of all rows", "[norm]") {
  const int64_t t = 41, d = 99;
  for (DType dtype : {DType::f32, DType::bf16}) {
    Buffer x(dtype, {t, d}), w(DType::f32, {d}), dy(dtype, {t, d}), dx(dtype, {t, d});
    Buffer mean(DType::f32, {t}), rstd(DType::f32, {t}), overflow(DType::i32, {1});
    Buffer rms(DType::i64, {d}), layer_w(DType::i64, {d}), layer_b(DType::i64, {d});
    x.fill(1), w.fill(2), dy.fill(3), mean.fill(4), rstd.fill(5), overflow.zero();
    rms.fill_int(6, -9, 9), layer_w.fill_int(7, -9, 9), layer_b.fill_int(8, -9, 9);
    Buffer rms_pieces(DType::i64, {d}), w_pieces(DType::i64, {d}), b_pieces(DType::i64, {d});
    rms_pieces.fill_int(6, -9, 9), w_pieces.fill_int(7, -9, 9), b_pieces.fill_int(8, -9, 9);
    Buffer chain(DType::f32, {d}), chain_w(DType::f32, {d}), chain_b(DType::f32, {d});
    RmsNormBwd r{.dy = dy, .x = x, .w = w, .rstd = rstd, .dresidual = {}, .dx = dx, .grad = rms, .overflow = overflow};
    LayerNormBwd l{.dy = dy, .x = x, .w = w, .mean = mean, .rstd = rstd, .dresidual = {}, .dx = dx, .grad_w = layer_w,
                   .grad_b = layer_b, .overflow = overflow};
    check_same_bits(r, {&dx}, {&rms, &overflow});
    check_same_bits(l, {&dx}, {&layer_w, &layer_b, &overflow});
    r.grad = rms_pieces, r.chain = chain;
    l.grad_w = w_pieces, l.grad_b = b_pieces, l.chain_w = chain_w, l.chain_b = chain_b;
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 16}, {16, 17}, {17, t}}) {
      const int64_t n = end - begin;
      r.resume = l.resume = begin > 0, r.pause = l.pause = end < t;
      r.dy = l.dy = rows_from(dy, begin, n), r.x = l.x = rows_from(x, begin, n), r.dx = l.dx = rows_from(dx, begin, n);
      r.rstd = l.rstd = elements_from(rstd, begin, n), l.mean = elements_from(mean, begin, n);
      check_same_bits(r, {}, {&dx, &chain, &rms_pieces, &overflow});
      check_same_bits(l, {}, {&dx, &chain_w, &chain_b, &w_pieces, &b_pieces, &overflow});
    }
    CHECK(same(rms, rms_pieces));
    CHECK(same(layer_w, w_pieces));
    CHECK(same(layer_b, b_pieces));
    l.resume = true, l.chain_b = {};
    CHECK_THROWS_AS(l.check(), llmctl::Error);
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
