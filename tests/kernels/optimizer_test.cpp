// SPDX-License-Identifier: Apache-2.0
#include "kernels/optimizer.h"

#include "kernels/basic.h"
#include "kernels/digest.h"
#include "kernels/fixed.h"
#include "tests/kernels/gradient_check.h"

using namespace llmctl::kn;

namespace {

struct Shape {
  int64_t rows, cols;
};
const Shape kShapes[] = {{1, 5}, {1, 700}, {65, 257}, {130, 33}, {3, 4200}};

// The header's sum, straight from the definition.
double scalar_norm(const Buffer& grad, float scale, int64_t tile, Shape s) {
  const int64_t across = (s.cols + kTileCols - 1) / kTileCols;
  const int64_t top = tile / across * kTileRows, left = tile % across * kTileCols;
  double lane[16] = {};
  for (int64_t r = top; r < std::min(top + kTileRows, s.rows); ++r)
    for (int64_t c = left; c < std::min(left + kTileCols, s.cols); ++c) {
      const int64_t at = r * s.cols + c;
      const float g =
          (grad.view().dtype == DType::i64 ? from_fixed(grad.as<int64_t>()[at]) : grad.as<float>()[at]) *
          scale;
      double& sum = lane[(c - left) % 16];
      sum = std::fma(static_cast<double>(g), static_cast<double>(g), sum);
    }
  for (int w = 8; w > 0; w /= 2)
    for (int i = 0; i < w; ++i) lane[i] += lane[i + w];
  return lane[0];
}

void fill_grad(Buffer& grad, uint64_t seed) {
  grad.fill(seed, grad.view().dtype == DType::i64 ? 0x1p40 : 1.0);
}

// One step of PyTorch's AdamW in f64.
struct Reference {
  Values w, m, v;
  void step(const Values& g, const AdamW& a) {
    for (size_t i = 0; i < w.size(); ++i) {
      m[i] = double(a.beta1) * m[i] + (1 - double(a.beta1)) * g[i];
      v[i] = double(a.beta2) * v[i] + (1 - double(a.beta2)) * g[i] * g[i];
      w[i] *= 1 - double(a.lr) * double(a.decay);
      w[i] -= double(a.lr) / double(a.bias1) * m[i] /
              (std::sqrt(v[i]) / std::sqrt(double(a.bias2)) + double(a.eps));
    }
  }
};

}  // namespace

TEST_CASE("gradient norm by tiles", "[optimizer]") {
  for (Shape s : kShapes)
    for (DType dtype : {DType::i64, DType::f32}) {
      INFO(s.rows << " x " << s.cols);
      Buffer grad(dtype, {s.rows, s.cols}), out(DType::i64, {tiles_of(s.rows, s.cols)});
      fill_grad(grad, 1);
      check_same_bits(GradNorm{.grad = grad, .scale = 0.125f, .out = out}, {&out});
      for (int64_t t = 0; t < out.size(); ++t) CHECK(out.as<double>()[t] == scalar_norm(grad, 0.125f, t, s));
    }
}

TEST_CASE("AdamW follows PyTorch's form", "[optimizer]") {
  for (Shape s : kShapes)
    for (DType dtype : {DType::i64, DType::f32}) {
      INFO(s.rows << " x " << s.cols << " " << name_of(dtype));
      const int64_t tiles = tiles_of(s.rows, s.cols);
      Buffer grad(dtype, {s.rows, s.cols}), w(DType::f32, {s.rows, s.cols}), m(DType::f32, {s.rows, s.cols});
      Buffer v(DType::f32, {s.rows, s.cols}), work(DType::i64, {tiles, 4}), digest(DType::i64, {4});
      w.fill(2), m.zero(), v.zero(), digest.zero();
      Reference want{values_of(w), values_of(m), values_of(v)};
      for (int step = 1; step <= 3; ++step) {
        fill_grad(grad, static_cast<uint64_t>(10 + step));
        AdamW op{.grad = grad,
                 .master = w,
                 .m = m,
                 .v = v,
                 .scale = 0.5f,
                 .lr = 0.01f,
                 .decay = 0.1f,
                 .digest_key = 99,
                 .tile_digests = work,
                 .digest = digest};
        op.bias1 = static_cast<float>(1 - powint64(0.9, step));
        op.bias2 = static_cast<float>(1 - powint64(0.95, step));
        check_same_bits(op, {&work}, {&w, &m, &v, &digest});
        Values g = gradient_values(grad);
        for (double& x : g) x *= 0.5;
        want.step(g, op);
        check_close(w, want.w, 1e-6);
        check_close(m, want.m, 1e-6);
        check_close(v, want.v, 1e-6);
      }
    }
}

TEST_CASE("AdamW adds the digests of weights and gradient", "[optimizer][digest]") {
  for (DType dtype : {DType::i64, DType::f32}) {
    const int64_t tiles = tiles_of(70, 300);
    Buffer grad(dtype, {70, 300}), w(DType::f32, {70, 300}), m(DType::f32, {70, 300}),
        v(DType::f32, {70, 300});
    Buffer work(DType::i64, {tiles, 4}), digest(DType::i64, {4}), tile(DType::i64, {tiles, 2}),
        own(DType::i64, {4});
    fill_grad(grad, 1), w.fill(2), m.fill(3), v.zero(), digest.zero();
    const Exec ex = test_exec(supported_isas().front(), 2);
    run(AdamW{.grad = grad,
              .master = w,
              .m = m,
              .v = v,
              .lr = 0.1f,
              .digest_key = 5,
              .tile_digests = work,
              .digest = digest},
        ex);
    View low(own.view().data, DType::i64, {2}), high(own.as<int64_t>() + 2, DType::i64, {2});
    run(TensorDigest{.x = w, .key = 5, .tile_digests = tile, .out = low}, ex);
    Buffer fixed(DType::i64, {70, 300});  // what a gradient is hashed as
    for (int64_t i = 0; i < grad.size(); ++i)
      fixed.as<int64_t>()[i] = dtype == DType::i64 ? grad.as<int64_t>()[i] : to_fixed(grad.as<float>()[i]);
    run(TensorDigest{.x = fixed, .key = 5, .tile_digests = tile, .out = high}, ex);
    CHECK(std::memcmp(own.view().data, digest.view().data, 32) == 0);
    const int64_t before = digest.as<int64_t>()[0];
    run(AdamW{.grad = grad,
              .master = w,
              .m = m,
              .v = v,
              .digest_key = 5,
              .tile_digests = work,
              .digest = digest},
        ex);
    CHECK(digest.as<int64_t>()[0] != before);  // added, not replaced
  }
}

// ------------------------------------------------------------------ fixed point and digests
TEST_CASE("fixed point rounds once to nearest even", "[fixed]") {
  CHECK(to_fixed(1.0f) == int64_t{1} << 40);
  CHECK(to_fixed(0x1p-41f) == 0);
  CHECK(to_fixed(0x1.8p-40f) == 2);
  CHECK(to_fixed(-0x1.4p-39f) == -2);
  CHECK(to_fixed(-4194303.75f) == -(int64_t{1} << 62) + (int64_t{1} << 38));
  CHECK(fits_fixed(4194303.5f, fixed_limit(1)));
  CHECK(!fits_fixed(4194304.0f, fixed_limit(1)));
  CHECK(!fits_fixed(524288.0f, fixed_limit(8)));
  CHECK(!fits_fixed(-math::kInfinity, fixed_limit(1)));
  CHECK(!fits_fixed(math::kNan, fixed_limit(1)));
  // 2^54 + 2^30 + 1 through a double would first lose the 1 and then tie to even.
  CHECK(from_fixed((int64_t{1} << 54) + (int64_t{1} << 30) + 1) == 0x1.000002p14f);
  CHECK(from_fixed((int64_t{1} << 54) + (int64_t{1} << 30)) == 0x1p14f);
  for (uint64_t i = 0; i < 10000; ++i) {
    const float g = math::from_bits(static_cast<int32_t>((test_bits(1, i) & 0x87ffffffu) | 0x28000000u));
    if (fits_fixed(g, fixed_limit(1)))
      CHECK(to_fixed(g) == std::llrint(std::ldexp(static_cast<double>(g), 40)));
  }
}

TEST_CASE("the digest of a tensor is the sum over its rows in tiles", "[digest]") {
  for (DType dtype : {DType::f32, DType::bf16, DType::i64, DType::i32})
    for (Shape s : kShapes) {
      INFO(name_of(dtype) << " " << s.rows << " x " << s.cols);
      Buffer x(dtype, {s.rows, s.cols}), out(DType::i64, {2}),
          work(DType::i64, {tiles_of(s.rows, s.cols), 2});
      x.fill(3, 1000);
      check_same_bits(TensorDigest{.x = x, .key = 77, .tile_digests = work, .out = out}, {&out, &work});
      Hash128 want;
      for (int64_t r = 0; r < s.rows; ++r)
        for (int64_t left = 0; left < s.cols; left += kTileCols) {
          const int n = static_cast<int>(std::min(kTileCols, s.cols - left));
          std::vector<uint32_t> words(512, 0);
          const int each = dtype == DType::i64 ? 2 : 1;
          for (int i = 0; i < n * each; ++i) {
            const int64_t at = (r * s.cols + left) * each + i;
            words[static_cast<size_t>(i)] =
                dtype == DType::bf16 ? x.as<uint16_t>()[at] : x.as<uint32_t>()[at];
          }
          RowSums sums;
          for (int pair = 0; pair < (n * each + 15) / 16 * 8; ++pair) {
            const RowSums p = hash_pair(words[static_cast<size_t>(2 * pair)],
                                        words[static_cast<size_t>(2 * pair + 1)], pair);
            sums.s1 += p.s1, sums.s2 += p.s2;
          }
          want = want +
                 row_hash(sums, {77, r / kTileRows, left / kTileCols, static_cast<int>(r % kTileRows), n});
        }
      CHECK(static_cast<uint64_t>(out.as<int64_t>()[0]) == want.low);
      CHECK(static_cast<uint64_t>(out.as<int64_t>()[1]) == want.high);
    }
}

TEST_CASE("a digest sees every bit, place and key", "[digest]") {
  Buffer x(DType::f32, {66, 300}), out(DType::i64, {2}), work(DType::i64, {tiles_of(66, 300), 2});
  const Exec ex = test_exec(supported_isas().front());
  x.fill(1);
  auto digest = [&](uint64_t key) {
    run(TensorDigest{.x = x, .key = key, .tile_digests = work, .out = out}, ex);
    return std::pair(out.as<int64_t>()[0], out.as<int64_t>()[1]);
  };
  const auto first = digest(1);
  CHECK(digest(2) != first);
  for (int64_t at : {0, 1, 255, 256, 299, 300, 64 * 300, 66 * 300 - 1})
    for (int bit : {0, 15, 31}) {
      x.as<uint32_t>()[at] ^= 1u << bit;
      CHECK(digest(1).first != first.first);
      CHECK(digest(1).second != first.second);
      x.as<uint32_t>()[at] ^= 1u << bit;
    }
  std::swap_ranges(x.as<float>(), x.as<float>() + 300, x.as<float>() + 300);
  CHECK(digest(1) != first);
}
