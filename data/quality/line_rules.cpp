// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "data/quality/signals.h"
#include "data/quality/text_lines.h"
#include "data/text/char_class.h"

namespace llmctl {
namespace {

constexpr std::string_view kPolicies[] = {"terms of use", "privacy policy", "cookie policy",
                                          "uses cookies", "use of cookies", "use cookies"};
constexpr std::string_view kCounted[] = {"likes",     "shares",    "comments",  "retweets",
                                         "reposts",   "quotes",    "bookmarks", "upvotes",
                                         "downvotes", "downloads", "views",     "followers"};

struct SpacedWords {
  uint64_t words = 0, longest = 0;  // characters
};
// Chunks between white space, counted only as far as `min_words` unless lengths are asked for.
SpacedWords spaced_words(std::string_view line, bool lengths, uint64_t enough) {
  SpacedWords s;
  uint64_t length = 0;
  for (size_t i = 0; i < line.size();) {
    const uint8_t c = static_cast<uint8_t>(line[i]);
    uint8_t bits;
    if (c < 0x80) {
      bits = kAsciiClass[c];
      ++i;
    } else {
      bits = char_class(next_code_point(line, i));
    }
    if ((bits & kSpace) != 0) {
      length = 0;
      continue;
    }
    s.words += length++ == 0;
    s.longest = std::max(s.longest, length);
    if (!lengths && s.words >= enough) break;
  }
  return s;
}

// Bytes of a citation mark at line[at] == '[': [digits], [edit], [citation needed]; 0 for none. Digits are
// of any script.
size_t citation_bytes(std::string_view line, size_t at) {
  const std::string_view rest = line.substr(at);
  for (const std::string_view mark : {std::string_view("[edit]"), std::string_view("[citation needed]")})
    if (rest.starts_with(mark)) return mark.size();
  size_t i = 1;
  while (i < rest.size()) {
    size_t next = i;
    if ((char_class(next_code_point(rest, next)) & kDigit) == 0) break;
    i = next;
  }
  return i < rest.size() && rest[i] == ']' ? i + 1 : 0;
}

std::string_view without_citations(std::string_view line, std::string& scratch) {
  size_t at = line.find('[');
  if (at == std::string_view::npos) return line;
  scratch.clear();
  size_t from = 0;
  while (at != std::string_view::npos) {
    const size_t bytes = citation_bytes(line, at);
    if (bytes != 0) {
      scratch.append(line, from, at - from);
      from = at + bytes;
    }
    at = line.find('[', at + std::max<size_t>(bytes, 1));
  }
  scratch.append(line, from);
  return scratch;
}

bool ends_a_line(std::string_view line) {
  if (line.empty() || line.ends_with("...")) return false;
  const char c = line.back();
  return c == '.' || c == '?' || c == '!' || c == '"' || c == '\'';
}

bool names_a_policy(std::string_view line) {
  if (line.size() < 11) return false;
  return std::any_of(std::begin(kPolicies), std::end(kPolicies),
                     [&](std::string_view p) { return contains_any_case(line, p); });
}

}  // namespace

C4Signals apply_c4(std::string_view text, const C4Options& o, std::string& edited) {
  C4Signals s;
  std::vector<Word> words;
  std::string scratch;
  edited.clear();
  edited.reserve(text.size());
  bool first = true;
  for_each_line(text, [&](std::string_view line) {
    s.lines += 1;
    line = strip(line);
    // No chunk is long in a short line.
    const bool lengths = o.max_word_length >= 0 && line.size() > static_cast<uint64_t>(o.max_word_length);
    const auto least = static_cast<uint64_t>(std::max<int64_t>(o.min_words_per_line, 0));
    const SpacedWords spaced = spaced_words(line, lengths, least);
    if (lengths && spaced.longest > static_cast<uint64_t>(o.max_word_length)) {
      s.long_words += 1;
      return;
    }
    if (o.remove_citations) line = without_citations(line, scratch);
    if (o.terminal_punctuation && !ends_a_line(line)) {
      s.no_terminal += 1;
      return;
    }
    if (spaced.words < least) {
      s.few_words += 1;
      return;
    }
    s.lorem_ipsum += contains_any_case(line, "lorem ipsum");
    if (o.drop_javascript && contains_any_case(line, "javascript")) {
      s.javascript += 1;
      return;
    }
    s.curly_bracket += line.find('{') != std::string_view::npos;
    if (o.drop_policy && names_a_policy(line)) {
      s.policy += 1;
      return;
    }
    words.clear();
    split_words(line, WordRule::marks, words);
    s.words += words.size();
    s.sentences += static_cast<double>(count_sentences(words.data(), words.data() + words.size()));
    s.kept += 1;
    if (!first) edited += '\n';
    first = false;
    edited += line;
  });
  const std::string_view whole = strip(edited);
  if (whole.size() != edited.size()) edited = std::string(whole);
  return s;
}

namespace {

// "3 likes", "1.2K followers!": a number, perhaps with K, M or B, then what is counted, between marks.
bool is_counter(std::string_view line) {
  const auto is = [&](size_t i, uint8_t bits) {
    return i < line.size() && static_cast<uint8_t>(line[i]) < 0x80 &&
           (kAsciiClass[static_cast<uint8_t>(line[i])] & bits) != 0;
  };
  size_t i = 0, end = line.size();
  while (i < end && !is(i, kAlpha | kDigit)) ++i;
  while (end > i && !is(end - 1, kAlpha | kDigit)) --end;
  if (!is(i, kDigit)) return false;
  while (i < end && (is(i, kDigit) || line[i] == ',' || line[i] == '.')) ++i;
  if (i < end && std::string_view("KkMmBb").find(line[i]) != std::string_view::npos && !is(i + 1, kAlpha))
    ++i;
  if (!is(i, kSpace)) return false;
  while (is(i, kSpace)) ++i;
  const std::string_view noun = line.substr(i, std::max(end, i) - i);
  for (std::string_view counted : kCounted) {
    if (noun.size() == counted.size() - 1) counted.remove_suffix(1);  // 1 like
    if (noun.size() == counted.size() && contains_any_case(noun, counted)) return true;
  }
  return false;
}

bool is_junk(std::string_view line, uint64_t words, const LineOptions& o) {
  uint64_t chars = 0, upper = 0, digits = 0;
  for (size_t i = 0; i < line.size(); ++chars) {
    const uint8_t bits = char_class(next_code_point(line, i));
    upper += (bits & kUpper) != 0;
    digits += (bits & kDigit) != 0;
  }
  const double all = static_cast<double>(chars);
  return static_cast<double>(upper) > o.max_upper * all ||
         static_cast<double>(digits) > o.max_numeric * all || (o.drop_counters && is_counter(line)) ||
         static_cast<int64_t>(words) < o.min_words;
}

// A leading "Sign-in", an ending "Read more..." and any "items in cart", in either case.
std::string_view cut_phrases(std::string_view line, std::string& scratch) {
  const auto same = [](std::string_view a, std::string_view b) {
    return a.size() == b.size() && contains_any_case(a, b);
  };
  constexpr std::string_view cart = "items in cart", more = "read more...", sign = "sign-in";
  if (contains_any_case(line, cart)) {
    scratch.clear();
    for (size_t i = 0; i < line.size();) {
      if (same(line.substr(i, cart.size()), cart)) {
        i += cart.size();
      } else {
        scratch += line[i++];
      }
    }
    line = scratch;
  }
  if (line.size() >= more.size() && same(line.substr(line.size() - more.size()), more))
    line.remove_suffix(more.size());
  if (same(line.substr(0, sign.size()), sign)) line.remove_prefix(sign.size());
  return line;
}

}  // namespace

LineSignals apply_line_rules(std::string_view text, const LineOptions& o, std::string& edited) {
  LineSignals s;
  uint64_t before = 0, after = 0;
  std::string scratch;
  edited.clear();
  edited.reserve(text.size());
  int64_t newlines = 0;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    const std::string_view bare = strip(line);
    if (bare.empty()) {  // kept as the break it is
      if (++newlines <= o.max_newlines && !edited.empty()) edited += '\n';
      continue;
    }
    s.lines += 1;
    const uint64_t words = spaced_words(bare, true, 0).words;
    before += words;
    if (is_junk(bare, words, o)) continue;
    if (static_cast<int64_t>(words) <= o.max_edit_words) {
      line = cut_phrases(bare, scratch);
      if (strip(line).empty()) continue;
    }
    s.kept += 1;
    after += spaced_words(line, true, 0).words;
    edited += line;
    if (end < text.size()) edited += '\n';
    newlines = 1;
  }
  while (edited.ends_with('\n')) edited.pop_back();
  s.removed_words = before > 0 ? static_cast<double>(before - after) / static_cast<double>(before) : 0;
  return s;
}

}  // namespace llmctl
