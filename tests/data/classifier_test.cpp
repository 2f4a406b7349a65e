// SPDX-License-Identifier: Apache-2.0
#include "data/quality/classifier.h"

#include <catch2/catch.hpp>
#include <random>

#include "../scratch.h"

namespace llmctl {
namespace {

// Two ways of writing that share most of their words; `source` brings words of its own.
std::vector<LabelledText> corpus(int documents, uint64_t seed, const std::string& source) {
  const char* const common[] = {"the", "a", "of", "and", "in", "is", "it", "for", "with", "on", "as", "this"};
  const char* const good[] = {"because", "therefore", "measured", "explains",
                              "chapter", "theorem",   "history"};
  const char* const bad[] = {"click", "buy", "cheap", "login", "subscribe", "deal", "cookies"};
  std::mt19937_64 random(seed);
  std::vector<LabelledText> all;
  for (int i = 0; i < documents; ++i) {
    LabelledText d;
    d.good = random() % 2 == 0;
    for (int w = 0; w < 60; ++w) {
      const uint64_t r = random();
      if (r % 10 < 2)
        d.text += (r >> 8) % 4 == 0 == d.good ? bad[(r >> 16) % 7] : good[(r >> 16) % 7];
      else if (r % 10 < 4)
        d.text += source + std::to_string((r >> 8) % 50);
      else
        d.text += common[(r >> 8) % 12];
      d.text += ' ';
    }
    all.push_back(d);
  }
  return all;
}

double held_out(const Classifier& c, const std::vector<LabelledText>& documents) {
  std::vector<double> scores;
  std::vector<uint8_t> good;
  for (const LabelledText& d : documents) {
    scores.push_back(c.score(d.text));
    good.push_back(d.good);
  }
  return auroc(scores, good);
}

Classifier trained(const std::vector<LabelledText>& documents, const ClassifierOptions& options,
                   int threads) {
  kn::ThreadPool pool(threads);
  return Classifier::train(documents, options, kn::Exec{.pool = &pool});
}

}  // namespace

TEST_CASE("AUROC by hand", "[classifier]") {
  const std::vector<double> scores = {.1, .4, .35, .8};
  CHECK(auroc(scores, std::vector<uint8_t>{0, 0, 1, 1}) == .75);
  CHECK(auroc(scores, std::vector<uint8_t>{0, 1, 0, 1}) == 1);
  CHECK(auroc(std::vector<double>{.5, .5, .5}, std::vector<uint8_t>{0, 1, 1}) == .5);
  CHECK(code_of([] { auroc(std::vector<double>{.5}, std::vector<uint8_t>{1}); }) == Code::input);
}

TEST_CASE("a classifier learns what a source that it never saw shares, the same for any threads",
          "[classifier]") {
  const std::vector<LabelledText> seen = corpus(600, 1, "alpha"), other = corpus(400, 2, "beta");
  ClassifierOptions options;
  options.buckets_log2 = 16;
  const Classifier one = trained(seen, options, 1), three = trained(seen, options, 3);
  CHECK(one.digest() == three.digest());
  const double area = held_out(one, other);
  INFO("AUROC " << area);
  CHECK(area > .95);
  options.seed = 2;
  CHECK(trained(seen, options, 1).digest() != one.digest());
  // Labels drawn by lot teach nothing.
  std::vector<LabelledText> lots = seen;
  std::mt19937_64 random(4);
  for (LabelledText& d : lots) d.good = random() % 2 == 0;
  CHECK(held_out(trained(lots, options, 2), other) < .7);
}

TEST_CASE("a classifier's file: the same scores, and damage is refused", "[classifier]") {
  ScratchFolder folder;
  ClassifierOptions options;
  options.buckets_log2 = 12;
  const Classifier c = trained(corpus(50, 1, "x"), options, 1);
  c.save(folder / "c.safetensors", false);
  const Classifier again = Classifier::load(folder / "c.safetensors");
  CHECK(again.digest() == c.digest());
  for (const char* text : {"", "the theorem explains", "click \xFF\xFE buy", "\n\n"}) {
    CHECK(again.score(text) == c.score(text));
    CHECK(c.score(text) > 0);
    CHECK(c.score(text) < 1);
  }
  CHECK(c.score("The Theorem\texplains\n") == c.score("the theorem explains"));
  const std::string good = folder.get("c.safetensors");
  for (size_t at = 0; at < good.size(); at += 401) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x11);
    folder.put("bad", bytes);
    Code code = code_of([&] { Classifier::load(folder / "bad"); });
    CHECK(code == Code::input);
  }
  CHECK(c.score(std::string(1 << 20, 'x')) > 0);
}

TEST_CASE("labelled lines", "[classifier]") {
  ScratchFolder folder;
  const auto read = [&](const std::string& lines) {
    folder.put("l.jsonl", lines);
    return read_labelled(folder / "l.jsonl", "hq");
  };
  const auto d = read(
      "{\"text\": \"a\", \"label\": \"hq\"}\n\n{\"text\": \"b\", \"label\": 0}\n{\"text\": \"c\", \"label\": "
      "true}\n"
      "{\"text\": \"d\", \"label\": \"cc\"}\n");
  REQUIRE(d.size() == 4);
  CHECK(d[0].good);
  CHECK(!d[1].good);
  CHECK(d[2].good);
  CHECK(!d[3].good);
  for (const char* line :
       {"{\"text\": \"a\"}", "{\"text\": 1, \"label\": 1}", "{\"text\": \"a\", \"label\": 2}", "[]", "{"})
    CHECK(code_of([&] { read(line); }) == Code::input);
  CHECK(code_of([] { trained({{"a", true}, {"b", true}}, {}, 1); }) == Code::input);
  ClassifierOptions wild;
  wild.buckets_log2 = 40;
  CHECK(code_of([&] { trained({{"a", true}, {"b", false}}, wild, 1); }) == Code::input);
}

}  // namespace llmctl
