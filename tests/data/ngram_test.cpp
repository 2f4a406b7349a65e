// SPDX-License-Identifier: Apache-2.0
// The n-gram model against a slow one that counts strings in maps, in f64; its sums; its files.
#include "data/quality/ngram.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include "../scratch.h"
#include "data/quality/portable_math.h"

namespace llmctl {
namespace {

using Words = std::vector<std::string>;

// Interpolated modified Kneser-Ney as the header states it, from the definitions.
struct SlowModel {
  size_t order;
  std::vector<std::map<Words, double>> count;  // adjusted, by order - 1
  std::vector<std::array<double, 4>> discount;
  std::set<std::string> vocabulary;

  SlowModel(const std::vector<Words>& sentences, size_t n) : order(n), count(n), discount(n) {
    std::vector<std::map<Words, double>> raw(n);
    std::vector<std::map<Words, std::set<std::string>>> left(n);
    for (const Words& sentence : sentences) {
      Words w = sentence;
      w.insert(w.begin(), "<s>");
      w.push_back("</s>");
      for (size_t i = 1; i < w.size(); ++i) {
        vocabulary.insert(w[i]);
        for (size_t k = 1; k <= n && k <= i + 1; ++k) {
          const Words gram(w.begin() + static_cast<long>(i + 1 - k), w.begin() + static_cast<long>(i + 1));
          raw[k - 1][gram] += 1;
          if (i + 1 > k) left[k - 1][gram].insert(w[i - k]);
        }
      }
    }
    for (size_t k = 1; k <= n; ++k) {
      double t[5] = {};
      for (const auto& [gram, c] : raw[k - 1]) {
        const double a = k == n || gram[0] == "<s>" ? c : static_cast<double>(left[k - 1][gram].size());
        count[k - 1][gram] = a;
        if (a < 5) ++t[static_cast<int>(a)];
      }
      discount[k - 1] = {0, .5, 1, 1.5};
      if (t[1] > 0 && t[2] > 0 && t[3] > 0) {
        const double y = t[1] / (t[1] + 2 * t[2]);
        std::array<double, 4> d{};
        bool good = true;
        for (int j = 1; j <= 3; ++j) {
          d[static_cast<size_t>(j)] = j - (j + 1) * y * t[j + 1] / t[j];
          good &= d[static_cast<size_t>(j)] >= 0 && d[static_cast<size_t>(j)] <= j;
        }
        if (good) discount[k - 1] = d;
      }
    }
  }
  double prob(const Words& gram) const {  // of the last word after the others
    const size_t k = gram.size();
    if (k == 0) return 1. / static_cast<double>(vocabulary.size() + 1);  // and <unk>
    const Words shorter(gram.begin() + 1, gram.end());
    double sum = 0, own = 0, mass = 0;
    for (const auto& [other, c] : count[k - 1]) {
      if (!std::equal(gram.begin(), gram.end() - 1, other.begin())) continue;
      const double d = discount[k - 1][static_cast<size_t>(std::min(c, 3.))];
      sum += c;
      mass += d;
      if (other == gram) own = c - d;
    }
    return sum == 0 ? prob(shorter) : own / sum + mass / sum * prob(shorter);
  }
  double score(const Words& sentence) const {
    Words w = sentence;
    w.insert(w.begin(), "<s>");
    w.push_back("</s>");
    double total = 0;
    for (size_t i = 1; i < w.size(); ++i) {
      const size_t k = std::min(order, i + 1);
      total += std::log10(
          prob(Words(w.begin() + static_cast<long>(i + 1 - k), w.begin() + static_cast<long>(i + 1))));
    }
    return total;
  }
};

std::vector<Words> some_sentences(int n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Words> all;
  for (int i = 0; i < n; ++i) {
    Words w;
    for (uint64_t k = 1 + random() % 9; k > 0; --k) {
      const uint64_t r = random() % 64;
      w.push_back("w" + std::to_string(r * r / 256));
    }
    all.push_back(w);
  }
  return all;
}

std::string text_of(const std::vector<Words>& sentences) {
  std::string text;
  for (const Words& s : sentences) {
    for (size_t i = 0; i < s.size(); ++i) text += (i > 0 ? " " : "") + s[i];
    text += '\n';
  }
  return text;
}

fs::path trained(const ScratchFolder& folder, const std::string& text, NgramOptions options,
                 const char* name) {
  options.scratch = folder.make("runs");
  NgramTrainer trainer(options);
  trainer.add(text);
  trainer.finish(folder / name, true);
  return folder / name;
}

}  // namespace

TEST_CASE("log and exp without libm", "[ngram]") {
  std::mt19937_64 random(3);
  for (int i = 0; i < 20000; ++i) {
    const double x =
        std::ldexp(1 + static_cast<double>(random() >> 12) * 0x1p-52, static_cast<int>(random() % 600) - 300);
    CHECK(portable_log(x) == Approx(std::log(x)).epsilon(5e-16).margin(1e-16));
    const double y = (static_cast<double>(random() >> 11) * 0x1p-53 - .5) * 1300;
    CHECK(portable_exp(y) == Approx(std::exp(y)).epsilon(6e-16));
  }
  CHECK(portable_log(1) == 0);
  CHECK(portable_exp(0) == 1);
  CHECK(portable_exp10(2) == Approx(100).epsilon(1e-14));
  CHECK(std::isinf(portable_log(0)));
}

TEST_CASE("probabilities equal a slow reference, and those of a context sum to 1", "[ngram]") {
  ScratchFolder folder;
  for (const int order : {1, 2, 3, 5}) {
    const std::vector<Words> sentences = some_sentences(60, 5);
    const SlowModel slow(sentences, static_cast<size_t>(order));
    const NgramModel model(trained(folder, text_of(sentences), {.order = order}, "m"));
    REQUIRE(model.order() == order);
    CHECK(model.ngrams(1) == slow.vocabulary.size() + 2);
    for (int n = 2; n <= order; ++n) CHECK(model.ngrams(n) == slow.count[static_cast<size_t>(n) - 1].size());
    std::vector<Words> heard = some_sentences(20, 6);
    heard.push_back({"w0", "never", "w1", "heard", "w0"});
    for (const Words& sentence : heard) {
      Words known = sentence;
      for (std::string& w : known)
        if (slow.vocabulary.count(w) == 0) w = "<unk>";
      const NgramScore s = model.score(text_of({sentence}));
      CHECK(s.log10 == Approx(slow.score(known)).epsilon(1e-6));
      CHECK(s.tokens == sentence.size() + 1);
    }
    // p(. | "w0 w1"): the scores of "w0 w1 x" against those of its beginning.
    double sum = 0;
    std::set<std::string> all = slow.vocabulary;
    all.insert("<unk>");
    for (const std::string& word : all) {
      Words gram = {"<s>", "w0", "w1", word};
      gram.erase(gram.begin(), gram.begin() + std::max(0, 4 - order));
      sum += slow.prob(gram);
    }
    CHECK(sum == Approx(1).epsilon(1e-9));
  }
}

TEST_CASE("the same model file for any memory limit; ARPA there and back", "[ngram]") {
  ScratchFolder folder;
  std::vector<Words> sentences = some_sentences(20000, 9);
  for (size_t i = 0; i < sentences.size(); ++i) sentences[i].push_back("x" + std::to_string(i * i % 7919));
  const std::string text = text_of(sentences);
  NgramOptions large{.order = 4}, small{.order = 4};
  small.memory_bytes = uint64_t{1} << 20;
  trained(folder, text, large, "large");
  trained(folder, text, small, "small");
  CHECK(folder.get("large") == folder.get("small"));
  CHECK(fs::is_empty(folder / "runs"));
  const NgramModel model(folder / "large");
  model.write_arpa(folder / "a.arpa", false);
  import_arpa(folder / "a.arpa", folder / "again", NgramUnit::words, false);
  const NgramModel again(folder / "again");
  again.write_arpa(folder / "b.arpa", false);
  const std::string probe = text_of(some_sentences(50, 11)) + "x1 x2 never x3\n";
  CHECK(model.score(probe).log10 == again.score(probe).log10);
  for (int n = 1; n <= 4; ++n) CHECK(model.ngrams(n) == again.ngrams(n));
  // Sorted by ids, which the two number differently: the same lines.
  const auto lines = [&](const char* name) {
    std::istringstream in(folder.get(name));
    std::multiset<std::string> all;
    for (std::string line; std::getline(in, line);) all.insert(line);
    return all;
  };
  CHECK(lines("a.arpa") == lines("b.arpa"));
}

TEST_CASE("bytes as units, markers in text, perplexity", "[ngram]") {
  ScratchFolder folder;
  const NgramModel model(trained(folder, "abab\nabba\n\n", {.order = 3, .unit = NgramUnit::bytes}, "m"));
  CHECK(model.unit() == NgramUnit::bytes);
  CHECK(model.ngrams(1) == 5);  // <unk> <s> </s> a b
  const NgramScore s = model.score("ab\n\nzz\n");
  CHECK(s.tokens == 6);
  CHECK(s.unknown == 2);
  CHECK(s.perplexity() == Approx(std::pow(10, -s.log10 / 6)).epsilon(1e-12));
  CHECK(NgramScore{}.perplexity() == 0);
  CHECK(model.score("abab").log10 > model.score("bbbb").log10);
  const NgramModel marked(trained(folder, "<s> a </s> <unk> b\n", {.order = 2}, "marked"));
  CHECK(marked.ngrams(1) == 5);
  CHECK(marked.score("a <s> </s>").unknown == 2);
}

TEST_CASE("models that are damaged or are none are refused", "[ngram]") {
  ScratchFolder folder;
  trained(folder, text_of(some_sentences(40, 2)), {.order = 3}, "m");
  const std::string good = folder.get("m");
  const auto refused = [&](const std::string& bytes) {
    folder.put("bad", bytes);
    return code_of([&] { NgramModel(folder / "bad"); });
  };
  CHECK(refused("") == Code::input);
  CHECK(refused(std::string(100, 'x')) == Code::input);
  for (size_t at = 0; at < good.size(); at += 97) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x41);
    CHECK(refused(bytes) == Code::input);
    CHECK(refused(good.substr(0, at)) == Code::input);
  }
  NgramOptions options{.order = 2};
  options.scratch = folder.make("runs");
  CHECK(code_of([&] { NgramTrainer(options).finish(folder / "n", false); }) == Code::input);
  options.order = 9;
  CHECK(code_of([&] { NgramTrainer bad(options); }) == Code::usage);
  for (const char* arpa :
       {"", "\\data\\\nngram 1=1\n", "\\data\\\nngram 1=1\n\n\\1-grams:\nx a\n\\end\\\n",
        "\\data\\\nngram 1=2\n\n\\1-grams:\n-1 a\n-1 a\n\n\\end\\\n",
        "\\data\\\nngram 1=1\nngram 2=1\n\n\\1-grams:\n-1 a\n\n\\2-grams:\n-1 b a\n\n\\end\\\n"}) {
    folder.put("bad.arpa", arpa);
    CHECK(code_of([&] { import_arpa(folder / "bad.arpa", folder / "x", NgramUnit::words, true); }) ==
          Code::input);
  }
}

}  // namespace llmctl
