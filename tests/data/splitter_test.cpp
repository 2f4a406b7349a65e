// SPDX-License-Identifier: Apache-2.0
// The hand-built splitters against their patterns run by PCRE2, on every instruction set.
#include "data/tokenizer/splitter.h"

#include <catch2/catch.hpp>
#include <chrono>

#include "data/tokenizer/pre_tokenizer.h"
#include "data/tokenizer/split_proof.h"
#include "data/tokenizer/split_regex.h"

using namespace llmctl;

namespace {

const std::string kSpaces = "\\s+(?!\\S)|\\s+";
std::string words(const std::string& letters, const std::string& digits, const std::string& not_marks) {
  return "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?" + letters + "|" + digits + "| ?[^\\s" +
         not_marks + "]+[\\r\\n]*|\\s*[\\r\\n]+|" + kSpaces;
}
const std::string kTekken =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|" +
    kSpaces;
const std::string kTiktoken =
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}+| "
    "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|\\s++$|"
    "\\s*[\\r\\n]|\\s+(?!\\S)|\\s";

// Splits in sequence, each of which isolates its matches.
class Reference {
 public:
  explicit Reference(SplitFamily family) {
    std::vector<std::string> patterns;
    switch (family) {
      case SplitFamily::gpt2:
        patterns = {named_pattern("gpt2")};
        break;
      case SplitFamily::cl100k:
        patterns = {named_pattern("llama3")};
        break;
      case SplitFamily::tiktoken:
        patterns = {kTiktoken};
        break;
      case SplitFamily::qwen2:
        patterns = {named_pattern("qwen2")};
        break;
      case SplitFamily::nanochat:
        patterns = {words("\\p{L}+", "\\p{N}{1,2}", "\\p{L}\\p{N}")};
        break;
      case SplitFamily::qwen35:
        patterns = {words("[\\p{L}\\p{M}]+", "\\p{N}", "\\p{L}\\p{M}\\p{N}")};
        break;
      case SplitFamily::o200k:
        patterns = {named_pattern("o200k")};
        break;
      case SplitFamily::tekken:
        patterns = {kTekken};
        break;
      case SplitFamily::starcoder:
        patterns = {"\\p{N}", named_pattern("gpt2")};
        break;
      case SplitFamily::deepseek3:
        patterns = deepseek_patterns();
        break;
    }
    if (patterns.size() == 1) REQUIRE(family_of(patterns[0]) == family);
    for (const std::string& p : patterns) regexes_.emplace_back(p);
  }
  std::vector<uint32_t> ends(std::string_view text) const {
    std::vector<Range> ranges = {{0, text.size()}};
    for (const SplitRegex& regex : regexes_) {
      std::vector<Range> cut;
      for (const Range& r : ranges) {
        std::vector<Range> found;
        regex.find(text.substr(r.begin, r.end - r.begin), found);
        size_t at = r.begin;
        for (const Range& f : found) {
          if (r.begin + f.begin > at) cut.push_back({at, r.begin + f.begin});
          cut.push_back({r.begin + f.begin, r.begin + f.end});
          at = r.begin + f.end;
        }
        if (at < r.end) cut.push_back({at, r.end});
      }
      ranges = std::move(cut);
    }
    std::vector<uint32_t> ends;
    for (const Range& r : ranges) ends.push_back(static_cast<uint32_t>(r.end));
    return ends;
  }

 private:
  std::vector<SplitRegex> regexes_;
};

std::vector<uint32_t> ends_of(const Splitter& splitter, std::string_view text) {
  std::vector<uint32_t> all, ends(Splitter::kBatch + 8);
  for (size_t at = 0; at < text.size();) {
    const size_t n = splitter.cut(text, at, ends.data());
    REQUIRE(n > 0);
    for (size_t i = 0; i < n; ++i) all.push_back(static_cast<uint32_t>(at) + ends[i]);
    at = all.back();
  }
  return all;
}

constexpr SplitFamily kFamilies[] = {SplitFamily::gpt2,     SplitFamily::cl100k,   SplitFamily::tiktoken,
                                     SplitFamily::qwen2,    SplitFamily::nanochat, SplitFamily::qwen35,
                                     SplitFamily::o200k,    SplitFamily::tekken,   SplitFamily::starcoder,
                                     SplitFamily::deepseek3};

// Of all instruction sets; says the text where they differ.
void compare(SplitFamily family, const Reference& reference, const std::string& text) {
  const std::vector<uint32_t> right = reference.ends(text);
  for (const kn::Isa isa : kn::supported_isas()) {
    const std::vector<uint32_t> got = ends_of(Splitter(family, isa), text);
    if (got == right) continue;
    size_t i = 0;
    while (i < got.size() && i < right.size() && got[i] == right[i]) ++i;
    const size_t from = i ? right[i - 1] : 0;
    std::string spelled;
    for (const char c : text.substr(from > 8 ? from - 8 : 0, 48)) {
      char one[8];
      std::snprintf(one, sizeof one, c >= 0x20 && c < 0x7F ? "%c" : "<%02X>", static_cast<unsigned char>(c));
      spelled += one;
    }
    FAIL(name_of(family) << " on " << kn::name_of(isa) << ": piece at " << from << " ends at "
                         << (i < got.size() ? got[i] : 0) << ", not at " << (i < right.size() ? right[i] : 0)
                         << ", near " << spelled);
  }
}

}  // namespace

TEST_CASE("splitters cut as their patterns do", "[splitter]") {
  for (const SplitFamily family : kFamilies) {
    const Reference reference(family);
    for (uint64_t seed = 1; seed <= 1500; ++seed)
      compare(family, reference, adversarial_text(seed, 1 + static_cast<int>(seed % 97), seed % 5 == 0));
  }
}

TEST_CASE("splitters cut 100,000 texts as their patterns do", "[.slow][splitter]") {
  for (const SplitFamily family : kFamilies) {
    const Reference reference(family);
    for (uint64_t seed = 10000; seed < 110000; ++seed)
      compare(family, reference, adversarial_text(seed, 1 + static_cast<int>(seed % 60), seed % 5 == 0));
  }
}

// Every string of a few kinds of bytes, at every place of a window.
TEST_CASE("splitters decide every short context", "[splitter]") {
  const std::string kinds = "aB7 \n.'s/\t";
  for (const SplitFamily family : kFamilies) {
    const Reference reference(family);
    std::string text;
    uint32_t code = 1;
    for (int i = 0; i < 20000; ++i) {
      code = code * 1664525 + 1013904223;
      for (uint32_t n = 0, left = code >> 12; n < 5; ++n, left /= 10) text += kinds[left % kinds.size()];
      if (text.size() > 400) {
        compare(family, reference, text);
        text.clear();
      }
    }
  }
}

TEST_CASE("splitters are linear in any text", "[splitter]") {
  const std::string mark = "\xCC\x81";
  for (const std::string& unit :
       {std::string("a"), std::string("A"), std::string(" "), std::string("^"), std::string("\n"),
        std::string("7"), std::string("'"), std::string("\xE4\xB8\xAD"), mark, std::string("A") + mark,
        std::string("'s"), std::string(" \n"), std::string("\x01"), std::string("\xFF"),
        std::string("/\n")}) {
    std::string text;
    while (text.size() < (1 << 20)) text += unit;
    for (const SplitFamily family : kFamilies) {
      const auto start = std::chrono::steady_clock::now();
      const std::vector<uint32_t> ends = ends_of(Splitter(family), text);
      CHECK(ends.back() == text.size());
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      INFO(name_of(family) << " on a run of " << unit);
      CHECK(took.count() < 2);  // about 0.01; quadratic would be minutes
    }
  }
}

TEST_CASE("a known pattern is recognised and cut in place", "[splitter]") {
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", named_pattern("o200k")}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  const PreTokenizer known(split);
  REQUIRE(known.splitter());
  CHECK(known.splitter()->family() == SplitFamily::o200k);
  CHECK(known.in_place());
  Json digits = {{"type", "Sequence"}};
  digits["pretokenizers"] = Json::array({{{"type", "Digits"}, {"individual_digits", true}},
                                         {{"type", "ByteLevel"}, {"add_prefix_space", false}}});
  REQUIRE(PreTokenizer(digits).splitter());
  CHECK(PreTokenizer(digits).splitter()->family() == SplitFamily::starcoder);
  Json deepseek = {{"type", "Sequence"}, {"pretokenizers", Json::array()}};
  for (const std::string& p : deepseek_patterns()) {
    Json one = split;
    one["pattern"]["Regex"] = p;
    deepseek["pretokenizers"].push_back(one);
  }
  REQUIRE(PreTokenizer(deepseek).splitter());
  CHECK(PreTokenizer(deepseek).splitter()->family() == SplitFamily::deepseek3);
  Json other = split;
  other["pattern"]["Regex"] = named_pattern("o200k") + "|x";
  CHECK_FALSE(PreTokenizer(other).splitter());
}
