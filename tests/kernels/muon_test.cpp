// SPDX-License-Identifier: Apache-2.0
#include "kernels/muon.h"

#include "kernels/basic.h"
#include "kernels/fixed.h"
#include "kernels/optimizer.h"
#include "tests/kernels/gradient_check.h"

using namespace llmctl::kn;

namespace {

struct Shape {
  int64_t rows, cols;
};
const Shape kShapes[] = {{1, 5}, {65, 257}, {130, 33}, {3, 4200}, {48, 16}};

std::vector<char> digest_of(const View& x, uint64_t key, const Exec& ex) {
  Buffer work(DType::i64, {tiles_of(x.rows(), x.cols()), 2}), out(DType::i64, {2});
  run(TensorDigest{.x = x, .key = key, .tile_digests = work, .out = out}, ex);
  return {out.as<char>(), out.as<char>() + 16};
}
// What a gradient is hashed as, however it is stored.
Buffer fixed_of(const Buffer& grad) {
  Buffer fixed(DType::i64, {grad.view().rows(), grad.view().cols()});
  for (int64_t i = 0; i < grad.size(); ++i)
    fixed.as<int64_t>()[i] = grad.view().dtype == DType::i64 ? grad.as<int64_t>()[i] : to_fixed(grad.as<float>()[i]);
  return fixed;
}
std::vector<char> bytes_of(const Buffer& b) { return {b.as<char>(), b.as<char>() + b.bytes()}; }

}  // namespace

TEST_CASE("Muon's momentum is PyTorch's lerp, with the gradient's digest", "[muon]") {
  const Exec ex = test_exec(supported_isas().front(), 2);
  for (Shape s : kShapes)
    for (DType dtype : {DType::i64, DType::f32})
      for (bool nesterov : {true, false}) {
        INFO(s.rows << " x " << s.cols << " " << name_of(dtype) << (nesterov ? " nesterov" : ""));
        Buffer grad(dtype, {s.rows, s.cols}), m(DType::f32, {s.rows, s.cols}), u(DType::f32, {s.rows, s.cols});
        Buffer work(DType::i64, {tiles_of(s.rows, s.cols), 2}), digest(DType::i64, {2});
        grad.fill(1, dtype == DType::i64 ? 0x1p40 : 1.0), m.fill(2), digest.zero();
        Values mean = values_of(m), g = gradient_values(grad), update;
        const MuonMomentum op{.grad = grad, .m = m, .update = u, .scale = 0.5f, .momentum = 0.9f,
                              .nesterov = nesterov, .digest_key = 7, .tile_digests = work, .digest = digest};
        check_same_bits(op, {&work, &u}, {&m, &digest});
        for (size_t i = 0; i < g.size(); ++i) {
          mean[i] += (0.5 * g[i] - mean[i]) * (1 - double(op.momentum));
          update.push_back(nesterov ? 0.5 * g[i] + (mean[i] - 0.5 * g[i]) * double(op.momentum) : mean[i]);
        }
        check_close(m, mean, 1e-6);
        check_close(u, update, 1e-6);
        CHECK(bytes_of(digest) == digest_of(fixed_of(grad), 7, ex));
      }
}

TEST_CASE("Muon's update decays, descends and adds the weight's digest", "[muon]") {
  const Exec ex = test_exec(supported_isas().front(), 2);
  for (Shape s : kShapes) {
    INFO(s.rows << " x " << s.cols);
    Buffer w(DType::f32, {s.rows, s.cols}), u(DType::f32, {s.rows, s.cols});
    Buffer work(DType::i64, {tiles_of(s.rows, s.cols), 2}), digest(DType::i64, {2});
    w.fill(1), u.fill(2), digest.zero();
    Values want = values_of(w);
    const MuonUpdate op{.update = u, .master = w, .lr = 0.1f, .decay = 0.2f, .step = 0.3f, .digest_key = 9,
                        .tile_digests = work, .digest = digest};
    check_same_bits(op, {&work}, {&w, &digest});
    for (size_t i = 0; i < want.size(); ++i)
      want[i] = want[i] * (1 - double(op.lr) * double(op.decay)) - double(op.step) * u.at(static_cast<int64_t>(i));
    check_close(w, want, 1e-6);
    CHECK(bytes_of(digest) == digest_of(w, 9, ex));
  }
}

TEST_CASE("a scaled copy, straight and turned", "[muon]") {
  for (Shape s : kShapes) {
    INFO(s.rows << " x " << s.cols);
    Buffer x(DType::f32, {s.rows, s.cols}), y(DType::f32, {s.rows, s.cols}), turned(DType::f32, {s.cols, s.rows});
    x.fill(3);
    check_same_bits(ScaledCopy{.x = x, .y = y, .scale = 3.0f}, {&y});
    check_same_bits(ScaledCopy{.x = x, .y = turned, .scale = 3.0f, .transpose = true}, {&turned});
    for (int64_t r = 0; r < s.rows; ++r)
      for (int64_t c = 0; c < s.cols; ++c) {
        const float want = x.as<float>()[r * s.cols + c] * 3.0f;
        REQUIRE(y.as<float>()[r * s.cols + c] == want);
        REQUIRE(turned.as<float>()[c * s.rows + r] == want);
      }
    check_same_bits(ScaledCopy{.x = x, .y = x, .scale = 3.0f}, {}, {&x});
    CHECK(bytes_of(x) == bytes_of(y));
  }
}
