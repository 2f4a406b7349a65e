// SPDX-License-Identifier: Apache-2.0
// Gemm, PackPanels, GemmDw, BiasGrad against a scalar model of the documented order, bit for bit.
#include "kernels/gemm.h"

#include <algorithm>
#include <optional>

#include "tests/kernels/op_check.h"

using namespace llmctl;
using namespace llmctl::kn;

namespace {

PackPanels pack_op(const Buffer& w, const Buffer& p, bool transpose) {
  PackPanels op{.src = w};
  (transpose ? op.panels_t : op.panels) = p;
  return op;
}

Buffer panels_of(const Buffer& w, DType dtype, bool transpose = false) {
  const int64_t n = w.view().rows(), k = w.view().cols();
  Buffer p(dtype, {panel_elements(dtype, transpose ? n : k, transpose ? k : n)});
  run(pack_op(w, p, transpose), test_exec(supported_isas()[0]));
  return p;
}

// The order amx32, written from the contract: blocks of 32, the chain of the even elements and that of
// the odd ones from +0, their sum joining the leaf's.
float blocks_sum(const Leaves& l, int leaf, const Buffer& x, int64_t row, const Buffer& w, int64_t n) {
  const int64_t k = x.view().cols();
  float acc = 0;
  for (int part = 0; part < l.parts; ++part) {
    const Span s = l.span(leaf, part);
    for (int64_t b = s.begin; b < s.end; b += 32) {
      float chain[2] = {0, 0};
      for (int64_t j = b; j < b + 32; ++j) {
        const float p = j < s.end ? static_cast<float>(x.at(row * k + j)) : 0.0f;
        const float q = j < s.end ? static_cast<float>(w.at(n * k + j)) : 0.0f;
        chain[j % 2] = std::fma(p, q, chain[j % 2]);
      }
      acc += chain[0] + chain[1];
    }
  }
  return acc;
}

// The order, written from the contract: a leaf is one chain over its columns, odd element of a
// pair first in bf16; leaves join as a balanced tree, empty ones skipped.
std::optional<float> leaf_sum(const Leaves& l, int leaf, const Buffer& x, int64_t row,
                              const Buffer& w, int64_t n, Bf16Order order) {
  if (l.empty(leaf)) return std::nullopt;
  if (order == Bf16Order::amx32) return blocks_sum(l, leaf, x, row, w, n);
  const int64_t k = x.view().cols(), per = x.view().dtype == DType::bf16 ? 2 : 1;
  float acc = 0;
  for (int part = 0; part < l.parts; ++part) {
    const Span s = l.span(leaf, part);
    for (int64_t i = s.begin; i < s.end; i += per)
      for (int64_t j = i + per - 1; j >= i; --j) {
        const float a = j < s.end ? static_cast<float>(x.at(row * k + j)) : 0.0f;
        const float b = j < s.end ? static_cast<float>(w.at(n * k + j)) : 0.0f;
        acc = std::fma(a, b, acc);
      }
  }
  return acc;
}

std::optional<float> tree_sum(const Leaves& l, int lo, int hi, const Buffer& x, int64_t row,
                              const Buffer& w, int64_t n, Bf16Order order) {
  if (hi - lo == 1) return leaf_sum(l, lo, x, row, w, n, order);
  const auto a = tree_sum(l, lo, (lo + hi) / 2, x, row, w, n, order);
  const auto b = tree_sum(l, (lo + hi) / 2, hi, x, row, w, n, order);
  return b ? std::optional<float>(*a + *b) : a;
}

void require_model(const Gemm& g, const Buffer& x, const Buffer& w, const Buffer& y) {
  set_denormals_are_zero();
  for (int64_t m = 0; m < x.view().rows(); ++m)
    for (int64_t n = 0; n < g.n; ++n) {
      float want = *tree_sum(g.leaves, 0, g.leaves.count, x, m, w, n, g.order);
      if (g.bias) want += static_cast<float>(g.bias.as<float>()[n]);
      const float got = y.as<float>()[m * g.n + n];
      if (std::memcmp(&want, &got, 4) != 0) {
        CAPTURE(m, n, want, got);
        FAIL("not the documented order");
      }
    }
}

void require_model(int64_t m, int64_t k, int64_t n, DType dtype, const Leaves& leaves,
                   Bf16Order order = Bf16Order::pair) {
  INFO(m << " x " << k << " x " << n << " " << name_of(dtype) << " leaves " << leaves.count << " parts "
         << leaves.parts);
  Buffer x(dtype, {m, k}), w(dtype, {n, k}), y(DType::f32, {m, n});
  x.fill(1), w.fill(2);
  Buffer p = panels_of(w, dtype);
  Gemm g{.x = x, .w = p, .y = y, .n = n, .leaves = leaves, .order = order};
  check_same_bits(g, {&y});
  require_model(g, x, w, y);
}

}  // namespace

TEST_CASE("gemm keeps the order amx32", "[kernels][gemm]") {
  for (int64_t k : {1, 7, 33, 64, 172})
    for (int64_t n : {5, 17, 50})
      for (int64_t m : {1, 2, 6, 16, 19, 33}) require_model(m, k, n, DType::bf16, leaves_of(k), Bf16Order::amx32);
  require_model(140, 1101, 209, DType::bf16, leaves_of(1101), Bf16Order::amx32);
  for (int count : {2, 4, 8})
    for (int64_t k : {31, 172, 256, 1025})
      for (int64_t m : {2, 11, 40}) require_model(m, k, 21, DType::bf16, leaves_of(k, count), Bf16Order::amx32);
  Leaves parts;
  parts.parts = 3;
  parts.width[0] = 128, parts.width[1] = 64, parts.width[2] = 65;
  for (int count : {1, 2, 4, 8}) {
    parts.count = count;
    require_model(20, 257, 40, DType::bf16, parts, Bf16Order::amx32);
  }
}

TEST_CASE("gemm keeps the documented order on odd sizes", "[kernels][gemm]") {
  for (DType dtype : {DType::f32, DType::bf16}) {
    for (int64_t k : {1, 7, 33, 172})
      for (int64_t n : {5, 17, 50})
        for (int64_t m : {1, 2, 6, 19}) require_model(m, k, n, dtype, leaves_of(k));
    require_model(3, 5, 50257, dtype, leaves_of(5));
    require_model(140, 301, 209, dtype, leaves_of(301));  // more than one task, block and group
    for (int64_t m : {3, 4, 5, 7, 8}) require_model(m, 600, 230, dtype, leaves_of(600));
  }
}

TEST_CASE("gemm leaves join as the balanced tree", "[kernels][gemm]") {
  for (DType dtype : {DType::f32, DType::bf16}) {
    for (int count : {2, 4, 8})
      for (int64_t k : {31, 172, 256, 1025}) require_model(11, k, 21, dtype, leaves_of(k, count));
    Leaves parts;
    parts.parts = 3;
    parts.width[0] = 128, parts.width[1] = 64, parts.width[2] = 65;
    for (int count : {1, 2, 4, 8}) {
      parts.count = count;
      require_model(9, 257, 40, dtype, parts);
    }
  }
}

TEST_CASE("gemm rows do not depend on their neighbours", "[kernels][gemm]") {
  const int64_t k = 300, n = 90;
  Buffer x(DType::bf16, {37, k}), w(DType::bf16, {n, k}), y(DType::bf16, {37, n}), one(DType::bf16, {1, n});
  x.fill(3), w.fill(4);
  Buffer p = panels_of(w, DType::bf16);
  run(Gemm{.x = x, .w = p, .y = y, .n = n, .leaves = leaves_of(k, 2)}, test_exec(supported_isas()[0], 2));
  for (int64_t r = 0; r < 37; ++r) {
    View row(x.as<bf16_t>() + r * k, DType::bf16, {1, k});
    run(Gemm{.x = row, .w = p, .y = one, .n = n, .leaves = leaves_of(k, 2)}, test_exec(supported_isas()[0]));
    REQUIRE(std::memcmp(one.as<char>(), y.as<bf16_t>() + r * n, static_cast<size_t>(one.bytes())) == 0);
  }
}

TEST_CASE("gemm epilogue: bias, residual in place, accumulate", "[kernels][gemm]") {
  const int64_t m = 13, k = 96, n = 39;
  Buffer x(DType::bf16, {m, k}), w(DType::f32, {n, k}), bias(DType::f32, {n}), y(DType::bf16, {m, n});
  Buffer root(DType::f32, {m, n}), sum(DType::f32, {m, n});
  x.fill(5), w.fill(6), bias.fill(7), y.fill(8), sum.fill(9);
  Buffer p = panels_of(w, DType::bf16);
  run(Gemm{.x = x, .w = p, .y = root, .n = n, .leaves = leaves_of(k)}, test_exec(supported_isas()[0]));
  std::vector<float> residual, before;
  for (int64_t i = 0; i < m * n; ++i)
    residual.push_back(static_cast<float>(y.at(i))), before.push_back(sum.as<float>()[i]);
  check_same_bits(Gemm{.x = x, .w = p, .y = y, .n = n, .leaves = leaves_of(k), .bias = bias, .residual = y}, {}, {&y});
  check_same_bits(Gemm{.x = x, .w = p, .y = sum, .n = n, .leaves = leaves_of(k), .accumulate = true}, {}, {&sum});
  for (int64_t i = 0; i < m * n; ++i) {
    const size_t s = static_cast<size_t>(i);
    const float r = root.as<float>()[i];
    REQUIRE(y.as<bf16_t>()[i] == test_narrow(r + bias.as<float>()[i % n] + residual[s]));
    REQUIRE(sum.as<float>()[i] == before[s] + r);
  }
}

TEST_CASE("gemm agrees with f64", "[kernels][gemm]") {
  const int64_t m = 33, k = 777, n = 65;
  for (DType dtype : {DType::f32, DType::bf16}) {
    Buffer x(dtype, {m, k}), w(dtype, {n, k}), y(DType::f32, {m, n});
    x.fill(10), w.fill(11);
    Buffer p = panels_of(w, dtype);
    check_same_bits(Gemm{.x = x, .w = p, .y = y, .n = n, .leaves = leaves_of(k, 2)}, {&y});
    std::vector<double> want(static_cast<size_t>(m * n));
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j)
        for (int64_t t = 0; t < k; ++t) want[static_cast<size_t>(i * n + j)] += x.at(i * k + t) * w.at(j * k + t);
    check_close(y, want, 5e-6);
  }
}

// vdpbf16ps against two FMAs, odd element first, over 4 million pairs of any sign and of exponents
// that reach denormal inputs, products and sums; no infinities.
TEST_CASE("the bf16 instructions are FMAs under DAZ and FTZ", "[kernels][gemm]") {
  const int64_t m = 7, k = 2048, n = 208;  // few rows: the instruction is used whatever its speed
  Buffer x(DType::bf16, {m, k}), w(DType::bf16, {n, k}), y(DType::f32, {m, n});
  auto any_bits = [](Buffer& b, uint64_t seed, uint64_t low, uint64_t high) {
    for (int64_t i = 0; i < b.size(); ++i) {
      const uint64_t r = test_bits(seed, static_cast<uint64_t>(i));
      const uint64_t exponent = (r >> 20) % 4 == 0 ? 0 : low + (r >> 24) % (high - low);
      b.as<bf16_t>()[i] = static_cast<bf16_t>((r & 0x807f) | exponent << 7);
    }
  };
  for (uint64_t high : {40, 70, 150}) {  // sums near the smallest normal, below it, and ordinary
    any_bits(x, 12, 0, high), any_bits(w, 13, 0, high == 40 ? 110 : high);
    Buffer p = panels_of(w, DType::bf16);
    for (Bf16Order order : {Bf16Order::pair, Bf16Order::amx32}) {
      Gemm g{.x = x, .w = p, .y = y, .n = n, .leaves = leaves_of(k), .order = order};
      check_same_bits(g, {&y});
      require_model(g, x, w, y);
    }
  }
}

TEST_CASE("both panels at once are the two", "[kernels][gemm]") {
  Buffer w(DType::f32, {75, 137}), forward(DType::bf16, {panel_elements(DType::bf16, 137, 75)});
  Buffer backward(DType::bf16, {panel_elements(DType::bf16, 75, 137)});
  w.fill(14);
  const Buffer one = panels_of(w, DType::bf16), two = panels_of(w, DType::bf16, true);
  check_same_bits(PackPanels{.src = w, .panels = forward, .panels_t = backward}, {&forward, &backward});
  REQUIRE(std::memcmp(one.as<char>(), forward.as<char>(), static_cast<size_t>(one.bytes())) == 0);
  REQUIRE(std::memcmp(two.as<char>(), backward.as<char>(), static_cast<size_t>(two.bytes())) == 0);
}

TEST_CASE("panels hold every weight once", "[kernels][gemm]") {
  for (bool transpose : {false, true})
    for (DType from : {DType::f32, DType::bf16})
      for (DType to : {DType::f32, DType::bf16}) {
        if (from == DType::bf16 && to == DType::f32) continue;
        const int64_t n = 37, k = 53, columns = transpose ? k : n, depth = transpose ? n : k;
        Buffer w(from, {n, k}), p(to, {panel_elements(to, depth, columns)});
        w.fill(14);
        check_same_bits(pack_op(w, p, transpose), {&p});
        const int64_t per = to == DType::bf16 ? 2 : 1, steps = per == 2 ? (depth + 31) / 32 * 16 : depth;
        for (int64_t i = 0; i < p.size(); ++i) {
          const int64_t h = i % per, c = i / per % 16, s = i / per / 16 % steps, panel = i / per / 16 / steps;
          const int64_t column = panel * 16 + c, d = s * per + h;
          const bool there = column < columns && d < depth;
          const double v = !there ? 0 : w.at(transpose ? d * k + column : column * k + d);
          REQUIRE(p.at(i) == (to == DType::bf16 ? static_cast<double>(test_widen(test_narrow(static_cast<float>(v)))) : v));
        }
      }
}

namespace {
// One chain in token order, pairs restarting at each sequence.
float dw_blocks(const Buffer& dy, const Buffer& x, int64_t seq, int64_t n, int64_t k) {
  const int64_t rows = dy.view().cols(), cols = x.view().cols(), tokens = dy.view().rows();
  float acc = 0;
  for (int64_t s = 0; s < tokens; s += seq)
    for (int64_t b = s; b < s + seq; b += 32) {
      float chain[2] = {0, 0};
      for (int64_t t = b; t < b + 32; ++t) {
        const bool there = t < s + seq;
        chain[(t - b) % 2] = std::fma(there ? static_cast<float>(dy.at(t * rows + n)) : 0.0f,
                                      there ? static_cast<float>(x.at(t * cols + k)) : 0.0f, chain[(t - b) % 2]);
      }
      acc += chain[0] + chain[1];
    }
  return acc;
}
float dw_chain(const Buffer& dy, const Buffer& x, int64_t seq, int64_t n, int64_t k, Bf16Order order) {
  if (order == Bf16Order::amx32) return dw_blocks(dy, x, seq, n, k);
  const int64_t rows = dy.view().cols(), cols = x.view().cols(), tokens = dy.view().rows();
  const int64_t per = dy.view().dtype == DType::bf16 ? 2 : 1;
  float acc = 0;
  for (int64_t s = 0; s < tokens; s += seq)
    for (int64_t t = s; t < s + seq; t += per)
      for (int64_t j = t + per - 1; j >= t; --j) {
        const bool there = j < s + seq;
        acc = std::fma(there ? static_cast<float>(dy.at(j * rows + n)) : 0.0f,
                       there ? static_cast<float>(x.at(j * cols + k)) : 0.0f, acc);
      }
  return acc;
}
}  // namespace

TEST_CASE("gemm_dw: order, pieces and fixed point", "[kernels][gemm]") {
  struct Case { int64_t sequences, seq, n, k; };
  struct Kind { DType dtype; Bf16Order order; };
  for (auto [dtype, order] : {Kind{DType::f32, Bf16Order::pair}, Kind{DType::bf16, Bf16Order::pair},
                              Kind{DType::bf16, Bf16Order::amx32}})
    for (const Case c : {Case{3, 7, 5, 17}, Case{1, 1, 1, 1}, Case{2, 150, 37, 200}, Case{4, 33, 140, 23},
                         Case{2, 40, 50, 64}, Case{1, 900, 300, 40}, Case{2, 8300, 33, 18}}) {
      INFO(c.sequences << " x " << c.seq << ", " << c.n << " x " << c.k << " " << name_of(dtype));
      const int64_t tokens = c.sequences * c.seq;
      Buffer dy(dtype, {tokens, c.n}), x(dtype, {tokens, c.k}), grad(DType::f32, {c.n, c.k});
      Buffer fixed(DType::i64, {c.n, c.k}), flag(DType::i32, {1}), chain(DType::f32, {c.n, c.k});
      Buffer work(DType::u8, {gemm_dw_workspace(dtype, tokens, c.seq, c.n, c.k, order)});
      dy.fill(15), x.fill(16), grad.zero(), fixed.zero(), flag.zero();
      GemmDw whole{.dy = dy, .x = x, .seq = c.seq, .grad = grad, .work = work, .order = order};
      check_same_bits(whole, {}, {&grad});
      set_denormals_are_zero();
      for (int64_t n = 0; n < c.n; ++n)
        for (int64_t k = 0; k < c.k; ++k) {
          const float want = 0.0f + dw_chain(dy, x, c.seq, n, k, order);
          const bool same = std::memcmp(&want, grad.as<float>() + n * c.k + k, 4) == 0;
          REQUIRE(same);
        }
      GemmDw exact = whole;
      exact.grad = fixed, exact.overflow = flag, exact.parts = 5;
      check_same_bits(exact, {}, {&fixed, &flag});
      REQUIRE(flag.at(0) == 0);
      GemmDw only = exact;  // the same number as f32, stored over whatever was there
      only.grad = grad, only.only = true;
      check_same_bits(only, {&grad, &flag});
      for (int64_t i = 0; i < fixed.size(); ++i)
        REQUIRE(grad.at(i) == std::ldexp(static_cast<double>(fixed.as<int64_t>()[i]), -40));
      whole.grad = grad, grad.zero();
      run(whole, test_exec(supported_isas()[0]));
      for (int64_t i = 0; i < fixed.size(); ++i)
        REQUIRE(fixed.as<int64_t>()[i] == std::llrint(std::ldexp(grad.at(i), 40)));
      if (c.sequences < 2) continue;
      Buffer pieces(DType::i64, {c.n, c.k});
      pieces.zero();
      for (int64_t s = 0; s < c.sequences; ++s) {
        GemmDw piece = exact;
        piece.dy = View(dy.as<char>() + s * c.seq * c.n * size_of(dtype), dtype, {c.seq, c.n});
        piece.x = View(x.as<char>() + s * c.seq * c.k * size_of(dtype), dtype, {c.seq, c.k});
        piece.grad = pieces, piece.chain = chain;
        piece.resume = s > 0, piece.pause = s + 1 < c.sequences;
        if (piece.pause && !piece.resume)
          check_same_bits(piece, {&chain});
        else if (piece.pause)
          check_same_bits(piece, {}, {&chain});
        else
          check_same_bits(piece, {}, {&pieces});
      }
      REQUIRE(std::memcmp(pieces.as<char>(), fixed.as<char>(), static_cast<size_t>(fixed.bytes())) == 0);
    }
}

TEST_CASE("gemm_dw and bias_grad raise the overflow flag", "[kernels][gemm]") {
  Buffer dy(DType::f32, {2, 20}), x(DType::f32, {2, 3}), grad(DType::i64, {20, 3}), flag(DType::i32, {1});
  Buffer work(DType::u8, {gemm_dw_workspace(DType::f32, 2, 2, 20, 3)}), bias(DType::i64, {20});
  for (float bad : {5e6f, HUGE_VALF, NAN}) {
    dy.fill(17), x.fill(18), grad.zero(), bias.zero(), flag.zero();
    dy.as<float>()[19] = bad;
    x.as<float>()[0] = 1;
    check_same_bits(GemmDw{.dy = dy, .x = x, .seq = 2, .grad = grad, .overflow = flag, .work = work}, {}, {&grad, &flag});
    REQUIRE(flag.at(0) == 1);
    flag.zero();
    check_same_bits(BiasGrad{.dy = dy, .grad = bias, .overflow = flag}, {}, {&bias, &flag});
    REQUIRE(flag.at(0) == 1);
  }
}

TEST_CASE("bias_grad sums columns in token order", "[kernels][gemm]") {
  for (DType dtype : {DType::f32, DType::bf16}) {
    const int64_t tokens = 57, n = 83;
    Buffer dy(dtype, {tokens, n}), grad(DType::f32, {n}), fixed(DType::i64, {n}), flag(DType::i32, {1});
    dy.fill(19), grad.fill(20), fixed.fill_int(21, -1000, 1000), flag.zero();
    std::vector<float> want;
    for (int64_t c = 0; c < n; ++c) {
      float sum = 0;
      for (int64_t t = 0; t < tokens; ++t) sum += static_cast<float>(dy.at(t * n + c));
      want.push_back(grad.as<float>()[c] + sum);
    }
    check_same_bits(BiasGrad{.dy = dy, .grad = grad}, {}, {&grad});
    for (int64_t c = 0; c < n; ++c) REQUIRE(grad.as<float>()[c] == want[static_cast<size_t>(c)]);
    Buffer pieces(DType::i64, {n}), chain(DType::f32, {n});
    std::memcpy(pieces.as<char>(), fixed.as<char>(), static_cast<size_t>(fixed.bytes()));
    check_same_bits(BiasGrad{.dy = dy, .grad = fixed, .overflow = flag, .parts = 3}, {}, {&fixed, &flag});
    BiasGrad piece{.dy = {}, .grad = pieces, .overflow = flag, .parts = 3, .chain = chain, .pause = true};
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 20}, {20, 37}, {37, tokens}}) {
      piece.dy = View(dy.as<char>() + begin * n * size_of(dtype), dtype, {end - begin, n});
      piece.resume = begin > 0, piece.pause = end < tokens;
      check_same_bits(piece, {}, {&chain, &pieces, &flag});
    }
    REQUIRE(std::memcmp(pieces.as<char>(), fixed.as<char>(), static_cast<size_t>(fixed.bytes())) == 0);
    piece.chain = {};
    REQUIRE_THROWS_AS(piece.check(), llmctl::Error);
  }
}

TEST_CASE("gemm refuses shapes that disagree", "[kernels][gemm]") {
  Buffer x(DType::bf16, {2, 10}), w(DType::bf16, {panel_elements(DType::bf16, 10, 4)}), y(DType::f32, {2, 4});
  const Gemm good{.x = x, .w = w, .y = y, .n = 4, .leaves = leaves_of(10)};
  REQUIRE_NOTHROW(good.check());
  Gemm bad = good;
  bad.leaves = leaves_of(12);
  REQUIRE_THROWS_AS(bad.check(), Error);
  bad = good, bad.n = 20;
  REQUIRE_THROWS_AS(bad.check(), Error);
  bad = good, bad.accumulate = true, bad.residual = y;
  REQUIRE_THROWS_AS(bad.check(), Error);
  bad = good, bad.leaves.parts = 2, bad.leaves.width[0] = 3, bad.leaves.width[1] = 7;
  REQUIRE_THROWS_AS(bad.check(), Error);
}
