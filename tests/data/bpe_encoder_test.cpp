// SPDX-License-Identifier: Apache-2.0
// The quick encoder against the plain one, piece by piece, on every instruction set.
#include "data/tokenizer/bpe_encoder.h"

#include <catch2/catch.hpp>
#include <chrono>

#include "data/tokenizer/split_proof.h"
#include "data/tokenizer/bpe_train.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/tokenizer_files.h"

using namespace llmctl;

namespace {

// Bytes, and merges drawn from adversarial text: pairs of neighbours, in a random order, so that many
// entries cannot be reached by the merges below them.
Bpe drawn_bpe(bool ignore_merges) {
  Bpe bpe;
  bpe.byte_level = true;
  bpe.ignore_merges = ignore_merges;
  std::vector<std::string> tokens;
  for (int b = 0; b < 256; ++b) {
    bpe.byte_ids[b] = b;
    tokens.push_back(std::string(1, static_cast<char>(b)));
    bpe.ids.add(tokens.back(), b);
  }
  bpe.merges = MergeTable(4000);
  int32_t rank = 0;
  for (uint64_t seed = 1; rank < 3000; ++seed) {
    const std::string text = adversarial_text(seed, 3);
    std::vector<int32_t> ids;
    bpe.ignore_merges = false;
    bpe.encode(text, ids);
    bpe.ignore_merges = ignore_merges;
    if (ids.size() < 2) continue;
    const size_t at = seed % (ids.size() - 1);
    const std::string joined = tokens[ids[at]] + tokens[ids[at + 1]];
    if (joined.size() > 40 || bpe.merges.find(ids[at], ids[at + 1]).rank >= 0) continue;
    const int32_t id = bpe.ids.find(joined).value_or(static_cast<int32_t>(tokens.size()));
    if (bpe.ids.add(joined, id)) tokens.push_back(joined);
    // Ranks that do not rise with the ids: half of them from the other end.
    const int32_t shuffled = rank % 2 ? 6000 - rank : rank;
    bpe.merges.set(ids[at], ids[at + 1], {shuffled, id});
    ++rank;
  }
  return bpe;
}

std::vector<int32_t> plain(const Bpe& bpe, const PreTokenizer& pre, std::string_view text) {
  std::vector<int32_t> ids;
  pre.for_each_piece(text, true, [&](std::string_view piece) { bpe.encode(piece, ids); });
  return ids;
}

}  // namespace

TEST_CASE("the quick encoder gives the ids of the plain one", "[bpe_encoder]") {
  for (const std::string pattern : {"gpt2", "cl100k", "o200k", "none"})
    for (const bool ignore_merges : {false, true}) {
      const Bpe bpe = drawn_bpe(ignore_merges);
      const PreTokenizer pre(pre_tokenizer_json(pattern));
      for (const kn::Isa isa : kn::supported_isas()) {
        const auto quick = BpeEncoder::make(bpe, isa);
        REQUIRE(quick);
        PieceCache tiny(2048), roomy(1 << 20);
        for (uint64_t seed = 5000; seed < 5300; ++seed) {
          const std::string text = adversarial_text(seed, 1 + static_cast<int>(seed % 80), seed % 3 == 0);
          const std::vector<int32_t> right = plain(bpe, pre, text);
          for (PieceCache* cache : {static_cast<PieceCache*>(nullptr), &tiny, &roomy}) {
            std::vector<int32_t> ids = {-7};
            quick->encode(text, true, pre, cache, ids);
            REQUIRE(ids.front() == -7);
            ids.erase(ids.begin());
            REQUIRE(ids == right);
          }
        }
      }
    }
}

TEST_CASE("a vocabulary that lacks a byte has no quick encoder", "[bpe_encoder]") {
  Bpe bpe = drawn_bpe(false);
  bpe.byte_ids[200] = -1;
  CHECK_FALSE(BpeEncoder::make(bpe));
}

TEST_CASE("long pieces do not take quadratic time", "[bpe_encoder]") {
  const Bpe bpe = drawn_bpe(false);
  const PreTokenizer pre(pre_tokenizer_json("cl100k"));
  const auto quick = BpeEncoder::make(bpe);
  for (const char c : {'a', ' ', '^', '\n', '7'}) {
    const std::string text(1 << 20, c);
    std::vector<int32_t> ids;
    const auto start = std::chrono::steady_clock::now();
    quick->encode(text, true, pre, nullptr, ids);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    CHECK(!ids.empty());
    CHECK(took.count() < 10);  // about 0.2; quadratic would be hours
  }
}

TEST_CASE("a text cut where it may be has the ids of the whole", "[bpe_encoder]") {
  for (const std::string pattern : {"gpt2", "cl100k", "o200k", "qwen2"}) {
    PieceCounter counter(pattern);
    for (uint64_t seed = 1; seed < 200; ++seed) counter.add(adversarial_text(seed, 100));
    BpeTrainOptions options;
    options.vocab_size = 900;
    options.pattern = pattern;
    const TokenizerFiles files = tokenizer_files(train_bpe(counter, options, [](int64_t) {}), options);
    const Tokenizer tokenizer = Tokenizer::from_json(files.tokenizer, files.config);
    size_t cuts = 0;
    for (uint64_t seed = 300; seed < 900; ++seed) {
      const std::string text = adversarial_text(seed, 150);
      const size_t at = tokenizer.cut_after(text, text.size() / 4);
      cuts += at < text.size();
      std::vector<int32_t> parts = tokenizer.encode(text.substr(0, at));
      const std::vector<int32_t> tail = tokenizer.encode(text.substr(at));
      parts.insert(parts.end(), tail.begin(), tail.end());
      REQUIRE(parts == tokenizer.encode(text));
    }
    CHECK(cuts > 50);
  }
}
