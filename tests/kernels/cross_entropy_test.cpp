// SPDX-License-Identifier: Apache-2.0
#include "kernels/cross_entropy.h"

#include "kernels/math.h"
#include "tests/kernels/gradient_check.h"

using namespace llmctl::kn;

namespace {

struct Sizes {
  int64_t rows, vocab, columns;
  int leaves;
};

double exact_lse(const Buffer& logits, int64_t row, const Sizes& s) {
  double sum = 0;
  for (int64_t i = 0; i < s.vocab; ++i) sum += std::exp(logits.at(row * s.columns + i));
  return std::log(sum);
}

// The order of the header, one scalar after another.
float scalar_lse(const float* x, int64_t vocab, int leaves) {
  const int64_t slice = (vocab + 32 * leaves - 1) / (32 * leaves) * 32;
  std::vector<std::pair<float, float>> level;
  for (int64_t begin = 0; begin < vocab; begin += slice) {
    const int64_t end = std::min(begin + slice, vocab);
    const float top = *std::max_element(x + begin, x + end);
    float lane[16] = {};
    for (int64_t i = begin; i < end; ++i) lane[(i - begin) % 16] += exp(x[i] - top);
    for (int w = 8; w > 0; w /= 2)
      for (int i = 0; i < w; ++i) lane[i] += lane[i + w];
    level.emplace_back(top, lane[0]);
  }
  while (level.size() > 1) {
    std::vector<std::pair<float, float>> next;
    for (size_t i = 0; i + 1 < level.size(); i += 2) {
      const auto [m0, s0] = level[i];
      const auto [m1, s1] = level[i + 1];
      const float top = std::max(m0, m1);
      next.emplace_back(top, s0 * exp(m0 - top) + s1 * exp(m1 - top));
    }
    if (level.size() % 2) next.push_back(level.back());
    level = next;
  }
  return level[0].first + log(level[0].second);
}

}  // namespace

TEST_CASE("cross-entropy", "[cross_entropy]") {
  for (const Sizes& s : {Sizes{5, 37, 37, 1},
                         {3, 257, 288, 4},
                         {4, 1000, 1024, 8},
                         {2, 7, 256, 8},
                         {3, 97, 128, 2},
                         {2, 70, 70, 2},
                         {1, 1, 1, 1}}) {
    INFO(s.vocab << " of " << s.columns << " in " << s.leaves << " leaves");
    Buffer logits(DType::f32, {s.rows, s.columns}), targets(DType::i32, {s.rows});
    Buffer loss(DType::f32, {s.rows}), lse(DType::f32, {s.rows});
    logits.fill(1, 4), targets.fill_int(2, 0, s.vocab - 1);
    if (s.rows > 1) targets.set(1, -1);
    for (int64_t r = 0; r < s.rows; ++r)  // padding is never read as a logit
      for (int64_t i = s.vocab; i < s.columns; ++i) logits.set(r * s.columns + i, 1e30);
    check_same_bits(CrossEntropyFwd{.logits = logits,
                                    .vocab = s.vocab,
                                    .leaves = s.leaves,
                                    .targets = targets,
                                    .loss = loss,
                                    .lse = lse},
                    {&loss, &lse});
    Values want_loss, want_lse, want_d;
    for (int64_t r = 0; r < s.rows; ++r) {
      const double exact = exact_lse(logits, r, s);
      const int64_t target = static_cast<int64_t>(targets.at(r));
      want_lse.push_back(exact);
      want_loss.push_back(target < 0 ? 0 : exact - logits.at(r * s.columns + target));
      for (int64_t i = 0; i < s.columns; ++i) {
        const bool counts = target >= 0 && i < s.vocab;
        want_d.push_back(counts ? (std::exp(logits.at(r * s.columns + i) - exact) - (i == target)) * 0.25
                                : 0);
      }
      set_denormals_are_zero();
      CHECK(lse.as<float>()[r] == scalar_lse(logits.as<float>() + r * s.columns, s.vocab, s.leaves));
    }
    check_close(lse, want_lse, 1e-6);
    check_close(loss, want_loss, 2e-6);
    for (DType dtype : {DType::f32, DType::bf16}) {
      Buffer d(dtype, {s.rows, s.columns});
      const CrossEntropyBwd op{
          .logits = logits, .vocab = s.vocab, .targets = targets, .lse = lse, .scale = 0.25f, .dlogits = d};
      check_same_bits(op, {&d});
      check_close(d, want_d, dtype == DType::f32 ? 2e-6 : 0.005);
      if (dtype == DType::bf16) continue;
      Buffer in_place(dtype, {s.rows, s.columns});
      std::memcpy(in_place.view().data, logits.view().data, static_cast<size_t>(logits.bytes()));
      CrossEntropyBwd aliased = op;
      aliased.logits = in_place, aliased.dlogits = in_place;
      run(aliased, test_exec(supported_isas().front()));
      CHECK(std::memcmp(in_place.view().data, d.view().data, static_cast<size_t>(d.bytes())) == 0);
    }
  }
}

TEST_CASE("the cross-entropy gradient is the slope of the loss", "[cross_entropy]") {
  Buffer logits(DType::f32, {1, 50}), target(DType::i32, {1}), loss(DType::f32, {1}), lse(DType::f32, {1});
  Buffer d(DType::f32, {1, 50});
  logits.fill(5, 2), target.set(0, 17);
  const Exec ex = test_exec(supported_isas().front());
  run(CrossEntropyFwd{.logits = logits, .vocab = 50, .targets = target, .loss = loss, .lse = lse}, ex);
  run(CrossEntropyBwd{.logits = logits, .vocab = 50, .targets = target, .lse = lse, .dlogits = d}, ex);
  auto forward = [](const Values& x) {
    double sum = 0;
    for (double v : x) sum += std::exp(v);
    return Values{std::log(sum) - x[17]};
  };
  check_close(d, gradient_by_differences(forward, values_of(logits), {1.0}), 1e-6);
}

// Columns with 2, 4 or 8 ranks, the last of which may have none that count: the bits of all in one place.
TEST_CASE("cross-entropy of a vocabulary that ranks share", "[cross_entropy]") {
  for (const auto& [vocab, leaves, ranks] : {std::tuple<int64_t, int, int>{1000, 8, 2}, {1000, 8, 8}, {131, 4, 4}, {257, 8, 4}, {64, 2, 2}}) {
    INFO(vocab << " in " << leaves << " leaves at " << ranks << " ranks");
    const int64_t rows = 5, columns = (vocab + 32 * leaves - 1) / (32 * leaves) * 32 * leaves, own = columns / ranks;
    Buffer logits(DType::f32, {rows, columns}), targets(DType::i32, {rows}), loss(DType::f32, {rows}), lse(DType::f32, {rows});
    Buffer want_loss(DType::f32, {rows}), want_lse(DType::f32, {rows}), want_d(DType::bf16, {rows, columns});
    logits.fill(1, 4), targets.fill_int(2, 0, vocab - 1), targets.set(1, -1), targets.set(2, static_cast<double>(vocab - 1));
    const Exec ex = test_exec(supported_isas().front());
    run(CrossEntropyFwd{.logits = logits, .vocab = vocab, .leaves = leaves, .targets = targets, .loss = want_loss, .lse = want_lse}, ex);
    run(CrossEntropyBwd{.logits = logits, .vocab = vocab, .targets = targets, .lse = want_lse, .scale = 0.5f, .dlogits = want_d}, ex);
    Buffer parts(DType::f32, {ranks, rows, 3}), part(DType::f32, {rows, 3}), d(DType::bf16, {rows, own}), mine(DType::f32, {rows, own});
    for (int r = 0; r < ranks; ++r) {
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t c = 0; c < own; ++c) mine.set(i * own + c, logits.at(i * columns + r * own + c));
      const int64_t counted = std::clamp<int64_t>(vocab - r * own, 0, own);
      check_same_bits(CrossEntropyPart{.logits = mine, .vocab = counted, .first = r * own, .leaves = leaves / ranks, .targets = targets,
                                       .part = part}, {&part});
      std::memcpy(parts.as<float>() + r * rows * 3, part.as<float>(), static_cast<size_t>(rows) * 12);
      check_same_bits(CrossEntropyBwd{.logits = mine, .vocab = counted, .first = r * own, .targets = targets, .lse = want_lse,
                                      .scale = 0.5f, .dlogits = d}, {&d});
      for (int64_t i = 0; i < rows; ++i)
        CHECK(std::memcmp(d.as<uint16_t>() + i * own, want_d.as<uint16_t>() + i * columns + r * own, static_cast<size_t>(own) * 2) == 0);
    }
    check_same_bits(CrossEntropyJoin{.parts = parts, .used = (vocab + own - 1) / own, .columns = own, .targets = targets, .loss = loss,
                                     .lse = lse}, {&loss, &lse});
    CHECK(std::memcmp(loss.as<float>(), want_loss.as<float>(), rows * 4) == 0);
    CHECK(std::memcmp(lse.as<float>(), want_lse.as<float>(), rows * 4) == 0);
  }
}
