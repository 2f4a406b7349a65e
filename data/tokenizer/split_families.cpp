// SPDX-License-Identifier: Apache-2.0
// The texts of the patterns that have a hand-built splitter.
#include "data/tokenizer/splitter.h"

namespace llmctl {

namespace {

const std::string kContractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const std::string kSpaces = "\\s+(?!\\S)|\\s+";

// Qwen, Llama and their like: what differs is how many digits a piece has.
bool is_words(const std::string& pattern, const std::string& digits) {
  const std::string head = kContractions + "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" + digits;
  const std::string marks = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]";
  return pattern == head + marks + "+|" + kSpaces || pattern == head + marks + "|" + kSpaces;
}

std::string cased(const std::string& contractions, const std::string& digits) {
  const std::string upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]", lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
  const std::string before = "[^\\r\\n\\p{L}\\p{N}]?";
  return before + upper + "*" + lower + "+" + contractions + "|" + before + upper + "+" + lower + "*" +
         contractions + "|" + digits + "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|" + kSpaces;
}

}  // namespace

std::optional<SplitFamily> family_of(const std::string& pattern) {
  static const std::string kGpt2 =
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|" + kSpaces;
  static const std::string kR50k =
      "'(?:[sdmt]|ll|ve|re)| ?\\p{L}++| ?\\p{N}++| ?[^\\s\\p{L}\\p{N}]++|\\s++$|\\s+(?!\\S)|\\s";
  static const std::string kTiktoken =
      "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}+| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|"
      "\\s++$|\\s*[\\r\\n]|\\s+(?!\\S)|\\s";
  // The same in words that Oniguruma reads alike: it has no {1,3}+, and its $ is the end of a line.
  static const std::string kTiktokenJson =
      "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
      "\\s+\\z|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";
  static const std::string kQwen35 =
      kContractions +
      "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+"
      "[\\r\\n]*|\\s*[\\r\\n]+|" +
      kSpaces;
  if (pattern == kGpt2 || pattern == kR50k) return SplitFamily::gpt2;
  if (pattern == kTiktoken || pattern == kTiktokenJson) return SplitFamily::tiktoken;
  if (pattern == kQwen35) return SplitFamily::qwen35;
  if (is_words(pattern, "\\p{N}{1,3}")) return SplitFamily::cl100k;
  if (is_words(pattern, "\\p{N}{1,2}")) return SplitFamily::nanochat;
  if (is_words(pattern, "\\p{N}")) return SplitFamily::qwen2;
  if (pattern == cased(kContractions + "?", "\\p{N}{1,3}")) return SplitFamily::o200k;
  if (pattern == cased("", "\\p{N}")) return SplitFamily::tekken;
  return std::nullopt;
}

std::vector<std::string> deepseek_patterns() {
  return {"\\p{N}{1,3}", "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+",
          "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
          "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|" +
              kSpaces};
}

}  // namespace llmctl
