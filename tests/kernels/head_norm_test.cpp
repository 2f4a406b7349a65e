// SPDX-License-Identifier: Apache-2.0
#include "kernels/head_norm.h"

#include <algorithm>

#include "tests/kernels/gradient_check.h"

using namespace llmctl::kn;

namespace {

struct Case {
  int64_t tokens, heads, kv_heads, width;
  DType dtype;
  double bound;
};
const Case kCases[] = {{5, 4, 2, 24, DType::f32, 1e-5}, {1, 1, 1, 2, DType::f32, 1e-5}, {3, 2, 1, 150, DType::f32, 2e-5},
                       {9, 3, 3, 64, DType::bf16, 0.02}};

// f64: query and key heads normalised, value heads as they are.
Values normed(const Case& c, const Values& x, const Values& query, const Values& key) {
  Values y = x;
  const auto d = static_cast<size_t>(c.width);
  const int64_t all = c.heads + 2 * c.kv_heads;
  for (int64_t r = 0; r < c.tokens * all; ++r) {
    if (r % all >= c.heads + c.kv_heads) continue;
    const size_t at = static_cast<size_t>(r) * d;
    double square = 0;
    for (size_t i = 0; i < d; ++i) square += x[at + i] * x[at + i];
    const double rstd = 1 / std::sqrt(square / static_cast<double>(d) + 1e-6);
    for (size_t i = 0; i < d; ++i) y[at + i] = x[at + i] * rstd * (r % all < c.heads ? query : key)[i];
  }
  return y;
}

}  // namespace

TEST_CASE("head norms and their gradients", "[norm]") {
  for (const Case& c : kCases) {
    INFO(c.heads << " + 2 x " << c.kv_heads << " heads of " << c.width << " " << name_of(c.dtype));
    const int64_t all = c.heads + 2 * c.kv_heads, normed_heads = c.heads + c.kv_heads;
    Buffer x(c.dtype, {c.tokens, all, c.width}), y(c.dtype, {c.tokens, all, c.width}), query(DType::f32, {c.width});
    Buffer key(DType::f32, {c.width}), rstd(DType::f32, {c.tokens, normed_heads});
    x.fill(1, 2), query.fill(2), key.fill(3);
    HeadNormFwd forward{.x = x, .w_query = query, .w_key = key, .heads = c.heads, .kv_heads = c.kv_heads, .y = y, .rstd = rstd};
    check_same_bits(forward, {&y, &rstd});
    check_close(y, normed(c, values_of(x), values_of(query), values_of(key)), c.bound);
    Buffer in_place(c.dtype, {c.tokens, all, c.width});
    in_place.fill(1, 2);
    forward.x = forward.y = in_place, forward.rstd = {};
    check_same_bits(forward, {}, {&in_place});
    CHECK(values_of(in_place) == values_of(y));

    Buffer dy(c.dtype, {c.tokens, all, c.width}), dx(c.dtype, {c.tokens, all, c.width});
    dy.fill(4);
    for (DType kind : {DType::i64, DType::f32}) {
      Buffer grad_query(kind, {c.width}), grad_key(kind, {c.width}), overflow(DType::i32, {1});
      grad_query.zero(), grad_key.zero(), overflow.zero();
      HeadNormBwd backward{.dy = dy, .x = x, .w_query = query, .w_key = key, .rstd = rstd, .heads = c.heads,
                           .kv_heads = c.kv_heads, .dx = dx, .grad_query = grad_query, .grad_key = grad_key, .parts = 4,
                           .overflow_query = overflow, .overflow_key = overflow};
      check_same_bits(backward, {&dx}, {&grad_query, &grad_key, &overflow});
      CHECK(overflow.at(0) == 0);
      const Values xs = values_of(x), qs = values_of(query), ks = values_of(key), by = values_of(dy);
      check_close(dx, gradient_by_differences([&](const Values& v) { return normed(c, v, qs, ks); }, xs, by), c.bound);
      check_values(gradient_values(grad_query),
                   gradient_by_differences([&](const Values& v) { return normed(c, xs, v, ks); }, qs, by), 1e-4);
      check_values(gradient_values(grad_key),
                   gradient_by_differences([&](const Values& v) { return normed(c, xs, qs, v); }, ks, by), 1e-4);
      // In place, and the weights' chains in two pieces.
      Buffer again(c.dtype, {c.tokens, all, c.width}), chains(DType::f32, {2, c.width});
      again.fill(4);
      const Values want = values_of(dx), sums = values_of(grad_query);
      grad_query.zero(), grad_key.zero();
      const int64_t half = c.tokens / 2, row = all * c.width;
      for (const bool second : {false, true}) {
        const int64_t first = second ? half : 0, count = second ? c.tokens - half : half;
        const auto tokens = [&](const Buffer& b) {
          return View(b.as<char>() + first * row * size_of(c.dtype), c.dtype, {count, all, c.width});
        };
        HeadNormBwd piece = backward;
        piece.dy = piece.dx = tokens(again), piece.x = tokens(x);
        piece.rstd = View(rstd.as<float>() + first * normed_heads, DType::f32, {count, normed_heads});
        piece.chain_query = View(chains.as<float>(), DType::f32, {c.width});
        piece.chain_key = View(chains.as<float>() + c.width, DType::f32, {c.width});
        piece.resume = second, piece.pause = !second;
        run(piece, test_exec(supported_isas()[0], 2));
      }
      CHECK(values_of(again) == want);
      CHECK(values_of(grad_query) == sums);
    }
  }
}
