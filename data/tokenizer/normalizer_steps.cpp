// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/normalizer_steps.h"

#include <array>

#include "data/text/unicode.h"
#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/mark_drift.h"

namespace llmctl {

namespace {

enum class Fate { keep, drop, change };

// fate(value, with): what becomes of each valid code point; `with` takes what it changes to.
template <class Choose>
AlignedText by_point(const AlignedText& text, const Choose& fate) {
  Rewrite rewrite(text);
  std::string with;
  size_t kept = 0;
  for_each_point(text.text, [&](const CodePoint& point, size_t begin, size_t end) {
    if (point.kind != CodePoint::Kind::valid) return;
    with.clear();
    const Fate to = fate(point.value, with);
    if (to == Fate::keep) return;
    rewrite.keep(kept, begin);
    if (to == Fate::change) rewrite.put(with, begin, end);
    kept = end;
  });
  rewrite.keep(kept, text.text.size());
  return rewrite.take();
}

}  // namespace

AlignedText replace_literal(const AlignedText& text, const std::string& from, const std::string& to) {
  Rewrite rewrite(text);
  size_t at = 0;
  for (size_t hit; (hit = text.text.find(from, at)) != std::string::npos; at = hit + from.size()) {
    rewrite.keep(at, hit);
    rewrite.put(to, hit, hit + from.size());
  }
  rewrite.keep(at, text.text.size());
  return rewrite.take();
}

AlignedText replace_regex(const AlignedText& text, const SplitRegex& regex, const std::string& to) {
  std::vector<Range> found;
  regex.find(text.text, found);
  Rewrite rewrite(text);
  size_t at = 0;
  for (const Range& r : found) {
    rewrite.keep(at, r.begin);
    rewrite.put(to, r.begin, r.end);
    at = r.end;
  }
  rewrite.keep(at, text.text.size());
  return rewrite.take();
}

AlignedText prepend(const AlignedText& text, const std::string& what) {
  Rewrite rewrite(text);
  if (!text.text.empty()) rewrite.put(what, 0, 0);
  rewrite.keep(0, text.text.size());
  return rewrite.take();
}

AlignedText strip_spaces(const AlignedText& text, bool left, bool right) {
  size_t first = text.text.size(), last = 0;  // of what is no space
  for_each_point(text.text, [&](const CodePoint& point, size_t begin, size_t end) {
    if (point.kind == CodePoint::Kind::valid && is_white_space(point.value)) return;
    if (last == 0) first = begin;
    last = end;
  });
  const size_t begin = left ? first : 0, end = right ? last : text.text.size();
  Rewrite rewrite(text);
  if (begin < end) rewrite.keep(begin, end);
  return rewrite.take();
}

AlignedText strip_accents(const AlignedText& text) {
  return by_point(
      text, [](char32_t value, std::string&) { return is_strip_accent(value) ? Fate::drop : Fate::keep; });
}

namespace {

// Letters with a lower case that came after Unicode 15, as Hugging Face knows them.
char32_t lower_of(char32_t value) {
  if (value == 0xA7CB) return 0x264;
  if (value == 0xA7DC) return 0x19B;
  for (const char32_t pair : {0x1C89, 0xA7CC, 0xA7CE, 0xA7D2, 0xA7D4, 0xA7DA})
    if (value == pair) return value + 1;
  if (value >= 0x10D50 && value <= 0x10D65) return value + 0x20;
  return value >= 0x16EA0 && value <= 0x16EB8 ? value + 0x1B : to_lower(value);
}

}  // namespace

AlignedText lowercase(const AlignedText& text) {
  return by_point(text, [](char32_t value, std::string& with) {
    if (value == 0x130) {  // the one code point with a lower case of two
      with = "i\xCC\x87";
      return Fate::change;
    }
    const char32_t lower = lower_of(value);
    if (lower == value) return Fate::keep;
    append_utf8(with, lower);
    return Fate::change;
  });
}

AlignedText spell_byte_level(const AlignedText& text) {
  Rewrite rewrite(text);
  for (size_t i = 0; i < text.text.size(); ++i)
    rewrite.put(spell_bytes(std::string_view(text.text).substr(i, 1)), i, i + 1);
  return rewrite.take();
}

AlignedText nmt(const AlignedText& text) {
  return by_point(text, [](char32_t v, std::string& with) {
    if ((v >= 1 && v <= 8) || v == 0xB || (v >= 0xE && v <= 0x1F) || v == 0x7F || v == 0x8F || v == 0x9F)
      return Fate::drop;
    const bool space = v == 9 || v == 0xA || v == 0xC || v == 0xD || v == 0x1680 ||
                       (v >= 0x200B && v <= 0x200F) || v == 0x2028 || v == 0x2029 || v == 0x2581 ||
                       v == 0xFEFF || v == 0xFFFD;
    with = " ";
    return space ? Fate::change : Fate::keep;
  });
}

AlignedText charsmap_by_graphemes(const AlignedText& text, const Charsmap& map) {
  Rewrite rewrite(text);
  const std::string_view all = text.text;
  const auto apply = [&](size_t begin, size_t end) {  // to the whole stretch, whatever part of it is matched
    const auto hit = map.find(all.substr(begin, end - begin), false);
    if (hit) rewrite.put(hit->with, begin, end);
    return hit.has_value();
  };
  size_t begin = 0;
  for (const size_t end : grapheme_ends(all)) {
    if (end - begin >= 6 || !apply(begin, end))
      for_each_point(all.substr(begin, end - begin), [&](const CodePoint&, size_t from, size_t to) {
        if (!apply(begin + from, begin + to)) rewrite.keep(begin + from, begin + to);
      });
    begin = end;
  }
  return rewrite.take();
}

namespace {

// As listed in BERT's tokenization.py, with Hugging Face's 0x2B920.
bool is_chinese(char32_t v) {
  return (v >= 0x4E00 && v <= 0x9FFF) || (v >= 0x3400 && v <= 0x4DBF) || (v >= 0x20000 && v <= 0x2A6DF) ||
         (v >= 0x2A700 && v <= 0x2B73F) || (v >= 0x2B740 && v <= 0x2B81F) || (v >= 0x2B920 && v <= 0x2CEAF) ||
         (v >= 0xF900 && v <= 0xFAFF) || (v >= 0x2F800 && v <= 0x2FA1F);
}

// Format characters that Hugging Face, with the table of Unicode 8, does not know yet: they stay.
bool is_later_format(char32_t v) {
  return v == 0x8E2 || v == 0x890 || v == 0x891 || v == 0x110CD || (v >= 0x13430 && v <= 0x1343F);
}

Fate cleaned(char32_t v, std::string& with) {
  const bool break_of_line = v == '\t' || v == '\n' || v == '\r';
  if (v == 0 || v == 0xFFFD || (is_other(v) && !break_of_line && !is_later_format(v))) return Fate::drop;
  with = " ";
  return is_white_space(v) && v != ' ' ? Fate::change : Fate::keep;
}

}  // namespace

AlignedText bert(const AlignedText& text, const BertOptions& options) {
  AlignedText now = text;
  if (options.clean_text) now = by_point(now, cleaned);
  if (options.handle_chinese_chars)
    now = by_point(now, [](char32_t v, std::string& with) {
      if (!is_chinese(v)) return Fate::keep;
      with = " ";
      append_utf8(with, v);
      with += " ";
      return Fate::change;
    });
  if (options.strip_accents)
    now = by_point(normalize(UnicodeForm::nfd, now, UnicodeTables::v9),
                   [](char32_t v, std::string&) { return is_bert_accent(v) ? Fate::drop : Fate::keep; });
  return options.lowercase ? lowercase(now) : now;
}

}  // namespace llmctl
