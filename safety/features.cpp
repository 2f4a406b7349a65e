// SPDX-License-Identifier: Apache-2.0
#include "safety/features.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/error.h"

namespace llmctl {
namespace {

constexpr size_t kLongestWord = 64;

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || static_cast<unsigned char>(c) >= 0x80;
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_word_byte(char c) {
  return is_letter(c) || is_digit(c);
}

// The letter a sign stands for in disguised spelling, or 0.
char disguised(char c) {
  switch (c) {
    case '0':
      return 'o';
    case '1':
      return 'i';
    case '3':
      return 'e';
    case '4':
      return 'a';
    case '5':
      return 's';
    case '7':
      return 't';
    case '@':
      return 'a';
    case '$':
      return 's';
    default:
      return 0;
  }
}

// Length of the invisible character at p: soft hyphen, zero-width space to joiner, BOM; else 0.
size_t invisible(std::string_view text, size_t at) {
  const std::string_view rest = text.substr(at, 3);
  if (rest.substr(0, 2) == "\xC2\xAD") return 2;
  if (rest == "\xE2\x80\x8B" || rest == "\xE2\x80\x8C" || rest == "\xE2\x80\x8D") return 3;
  return rest == "\xEF\xBB\xBF" ? 3 : 0;
}

// Length of the space or dash outside ASCII at p (no-break space, U+2010 to U+206F, U+3000); else 0.
size_t separator(std::string_view text, size_t at) {
  const std::string_view rest = text.substr(at, 3);
  if (rest.substr(0, 2) == "\xC2\xA0") return 2;
  return rest.substr(0, 2) == "\xE2\x80" || rest == "\xE3\x80\x80" ? rest.size() : 0;
}

std::string lowered(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    if (size_t skip = invisible(text, i)) {
      i += skip;
      continue;
    }
    if (size_t skip = separator(text, i)) {
      out.push_back(' ');
      i += skip;
      continue;
    }
    char c = text[i++];
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const size_t n = out.size();
    if (n >= 2 && c >= 'a' && c <= 'z' && out[n - 1] == c && out[n - 2] == c) continue;
    out.push_back(c);
  }
  return out;
}

// Reads signs as letters when the word has a letter; a word of digits alone stays a number.
void undisguise(std::string& word) {
  if (std::none_of(word.begin(), word.end(), is_letter)) return;
  for (char& c : word)
    if (char letter = disguised(c)) c = letter;
}

// Joins runs of three or more words of one letter each.
void join_spelled_out(std::vector<std::string>& words) {
  const auto single = [](const std::string& w) { return w.size() == 1 && is_letter(w[0]); };
  size_t out = 0;
  for (size_t i = 0; i < words.size();) {
    size_t end = i;
    while (end < words.size() && end - i < kLongestWord && single(words[end])) ++end;
    if (end - i < 3) {
      if (out != i) words[out] = std::move(words[i]);
      ++out, ++i;
      continue;
    }
    std::string joined;
    for (; i < end; ++i) joined += words[i];
    words[out++] = joined;
  }
  words.resize(out);
}

uint64_t mixed(uint64_t x) {  // the finaliser of SplitMix64
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// Equal ids become one feature with the square root of their share of half the mass.
void append_group(std::vector<uint32_t>& ids, Features& out) {
  std::sort(ids.begin(), ids.end());
  const double total = 2.0 * static_cast<double>(ids.size());
  for (size_t i = 0; i < ids.size();) {
    size_t end = i;
    while (end < ids.size() && ids[end] == ids[i]) ++end;
    const double share = static_cast<double>(end - i) / total;
    out.push_back({ids[i], static_cast<float>(std::sqrt(share))});
    i = end;
  }
}

void merge_equal_buckets(Features& f) {
  std::stable_sort(f.begin(), f.end(),
                   [](const Feature& a, const Feature& b) { return a.bucket < b.bucket; });
  size_t out = 0;
  for (size_t i = 0; i < f.size(); ++i) {
    if (out && f[out - 1].bucket == f[i].bucket)
      f[out - 1].value += f[i].value;
    else
      f[out++] = f[i];
  }
  f.resize(out);
}

}  // namespace

void check_shape(const FeatureShape& s, const std::string& who) {
  check(s.buckets >= 1024 && s.buckets <= (1 << 24) && std::has_single_bit(static_cast<uint64_t>(s.buckets)),
        Code::input, "[moderate] ", who, ": buckets is ", s.buckets,
        ": use a power of two from 1024 to 16777216");
  check(s.char_min >= 1 && s.char_min <= s.char_max && s.char_max <= 8, Code::input, "[moderate] ", who,
        ": character n-grams from ", s.char_min, " to ", s.char_max, ": use 1 <= min <= max <= 8");
}

std::vector<std::string> folded_words(std::string_view text) {
  const std::string low = lowered(text);
  std::vector<std::string> words;
  const auto inside = [&](size_t i) {
    if (is_word_byte(low[i])) return true;
    // a sign between word bytes belongs to the word: h@te
    return disguised(low[i]) && i > 0 && i + 1 < low.size() && is_word_byte(low[i - 1]) &&
           is_word_byte(low[i + 1]);
  };
  for (size_t i = 0; i < low.size();) {
    if (!inside(i)) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < low.size() && end - i < kLongestWord && inside(end)) ++end;
    words.push_back(low.substr(i, end - i));
    undisguise(words.back());
    i = end;
  }
  join_spelled_out(words);
  return words;
}

uint64_t text_hash(std::string_view bytes, uint64_t seed) {
  uint64_t h = mixed(seed + 0x9e3779b97f4a7c15ull);
  for (char c : bytes) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return mixed(h ^ bytes.size());
}

Features features_of(const std::vector<std::string>& words, size_t begin, size_t end,
                     const FeatureShape& shape) {
  const uint64_t mask = static_cast<uint64_t>(shape.buckets) - 1;
  const auto bucket = [&](std::string_view s, uint64_t kind) {
    return static_cast<uint32_t>(text_hash(s, kind) & mask);
  };
  std::vector<uint32_t> of_words, of_chars;
  for (size_t i = begin; i < end; ++i) {
    of_words.push_back(bucket(words[i], 1));
    if (i + 1 < end) of_words.push_back(bucket(words[i] + ' ' + words[i + 1], 2));
    const std::string bordered = '<' + words[i] + '>';
    for (int n = shape.char_min; n <= shape.char_max; ++n)
      for (size_t at = 0; at + static_cast<size_t>(n) <= bordered.size(); ++at)
        of_chars.push_back(bucket(std::string_view(bordered).substr(at, static_cast<size_t>(n)), 3));
  }
  Features out;
  append_group(of_words, out);
  append_group(of_chars, out);
  merge_equal_buckets(out);
  return out;
}

}  // namespace llmctl
