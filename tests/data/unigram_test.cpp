// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/unigram.h"

#include <catch2/catch.hpp>

using namespace llmctl;
using Ids = std::vector<int32_t>;

namespace {

// x, a, b, ab: the last is a little worse than the two before it, by less than a float beyond 100,000 has.
Ids encode(bool single_precision, std::string_view text) {
  Unigram model;
  model.single_precision = single_precision;
  model.scores = {-40000, -1, -0.999, -2};
  model.unk_score = -60000;
  model.trie = ByteTrie({{"x", 0}, {"a", 1}, {"b", 2}, {"ab", 3}});
  Ids ids;
  model.encode(text, ids);
  return ids;
}

}  // namespace

TEST_CASE("sums of sentencepiece are floats, and begin again beyond 100,000", "[tokenizer]") {
  CHECK(encode(false, "xxab") == Ids{0, 0, 1, 2});
  // Floats at -80,000 are 1/128 apart: a tie, and ab began first.
  CHECK(encode(true, "xxab") == Ids{0, 0, 3});
  CHECK(encode(true, "xxxab") == Ids{0, 0, 0, 1, 2});
  CHECK(encode(true, "xxxabxxab") == Ids{0, 0, 0, 1, 2, 0, 0, 3});
}
