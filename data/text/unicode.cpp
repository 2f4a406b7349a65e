// SPDX-License-Identifier: Apache-2.0
#include "data/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "data/text/utf8.h"
#include "kernels/error.h"

namespace llmctl {

namespace {

int category_of(char32_t value) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(value));
}

int class_of(int32_t value) {
  return utf8proc_get_property(value)->combining_class;
}

// Whether a code point neither moves nor joins what stands before it, so that text may be cut there.
bool begins_segment(char32_t value) {
  if (value < 0x300) return true;
  // Vowels and finals of Hangul join; U+11A7 only looks like a final, and utf8proc takes it for one.
  if (value >= 0x1160 && value <= 0x11FF) return value == 0x11A7;
  return mark_kind(value) == MarkKind::none && class_of(static_cast<int32_t>(value)) == 0;
}

struct CodeRange {
  char32_t first, last;
};
// What normalizes in Unicode 15.0 and was not there in 9.0.
constexpr CodeRange kAfterUnicode9[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x10785},
    {0x10787, 0x107B0}, {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E},
    {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42},
    {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E030, 0x1E06D},
    {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
    {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

bool came_after_9(char32_t value) {
  if (value < 0x7FD) return false;
  const auto it = std::upper_bound(std::begin(kAfterUnicode9), std::end(kAfterUnicode9), value,
                                   [](char32_t v, const CodeRange& r) { return v < r.first; });
  return it != std::begin(kAfterUnicode9) && value <= (it - 1)->last;
}

bool decomposes(UnicodeForm form) {
  return form == UnicodeForm::nfd || form == UnicodeForm::nfkd;
}

// Below this no code point changes in the form.
char32_t first_to_change(UnicodeForm form) {
  if (form == UnicodeForm::nfc) return 0x300;
  return form == UnicodeForm::nfd ? 0xC0 : 0xA0;
}

using Codes = std::vector<utf8proc_int32_t>;

void decompose(UnicodeForm form, char32_t value, Codes& out) {
  const bool compatible = form == UnicodeForm::nfkc || form == UnicodeForm::nfkd;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                      (compatible ? UTF8PROC_COMPAT : 0));
  std::array<utf8proc_int32_t, 32> codes;  // the longest decomposition is 18
  int last_class = UTF8PROC_BOUNDCLASS_START;
  const utf8proc_ssize_t n =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(value), codes.data(),
                              static_cast<utf8proc_ssize_t>(codes.size()), options, &last_class);
  check(n >= 0 && n <= static_cast<utf8proc_ssize_t>(codes.size()), Code::bug, "[unicode] U+", std::hex,
        static_cast<uint32_t>(value), " has no decomposition");
  out.insert(out.end(), codes.begin(), codes.begin() + n);
}

// The same of a code point that the form may take apart: halfwidth marks and vowels.
bool begins_segment(UnicodeForm form, char32_t value) {
  if (!begins_segment(value)) return false;
  if (value < 0x3000 || form == UnicodeForm::nfc || form == UnicodeForm::nfd) return true;
  Codes codes;
  decompose(form, value, codes);
  return begins_segment(static_cast<char32_t>(codes.front()));
}

// utf8proc sorts marks by exchanging neighbours, in quadratic time: sorted here instead.
void order_marks(Codes& codes) {
  for (auto at = codes.begin(); at != codes.end();) {
    if (class_of(*at) == 0) {
      ++at;
      continue;
    }
    const auto end = std::find_if(at, codes.end(), [](int32_t c) { return class_of(c) == 0; });
    std::stable_sort(at, end, [](int32_t a, int32_t b) { return class_of(a) < class_of(b); });
    at = end;
  }
}

// One stretch between places where text may be cut; all valid.
void normalize_segment(UnicodeForm form, std::string_view segment, std::string& out) {
  Codes codes;
  for (size_t at = 0; at < segment.size();) {
    const CodePoint point = code_point_at(segment, at);
    decompose(form, point.value, codes);
    at += point.bytes;
  }
  order_marks(codes);
  if (!decomposes(form)) {
    const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    const utf8proc_ssize_t n =
        utf8proc_normalize_utf32(codes.data(), static_cast<utf8proc_ssize_t>(codes.size()), options);
    check(n >= 0, Code::bug, "[unicode] a segment cannot be composed");
    codes.resize(static_cast<size_t>(n));
  }
  for (const utf8proc_int32_t code : codes) append_utf8(out, static_cast<char32_t>(code));
}

// Calls keep(begin, end) and put(bytes, begin, end) over the whole text in order.
template <class Keep, class Put>
void walk(UnicodeForm form, std::string_view text, UnicodeTables tables, const Keep& keep, const Put& put) {
  const char32_t plain_below = first_to_change(form);
  std::string changed;
  size_t kept = 0, begin = 0;  // text[kept, begin) stays; text[begin, at) is the open segment
  bool plain = true;           // the open segment is one code point that stays
  const auto close = [&](size_t at) {
    if (!plain) {
      changed.clear();
      normalize_segment(form, text.substr(begin, at - begin), changed);
      if (text.substr(begin, at - begin) != changed) {
        if (begin > kept) keep(kept, begin);
        put(changed, begin, at);
        kept = at;
      }
    }
    begin = at;
    plain = true;
  };
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    const bool valid = point.kind == CodePoint::Kind::valid;
    const bool alone = !valid || (tables == UnicodeTables::v9 && came_after_9(point.value));
    if (alone || begins_segment(form, point.value)) close(at);
    plain = plain && begin == at && (alone || point.value < plain_below);
    at += valid ? point.bytes : 1;
    if (alone) close(at);
  }
  close(text.size());
  if (kept < text.size()) keep(kept, text.size());
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

}  // namespace

std::string normalize(UnicodeForm form, std::string_view text, UnicodeTables tables) {
  if (is_ascii(text)) return std::string(text);
  std::string out;
  out.reserve(text.size());
  walk(
      form, text, tables, [&](size_t begin, size_t end) { out.append(text.substr(begin, end - begin)); },
      [&](std::string_view bytes, size_t, size_t) { out.append(bytes); });
  return out;
}

AlignedText normalize(UnicodeForm form, const AlignedText& text, UnicodeTables tables) {
  Rewrite rewrite(text);
  walk(
      form, text.text, tables, [&](size_t begin, size_t end) { rewrite.keep(begin, end); },
      [&](std::string_view bytes, size_t begin, size_t end) { rewrite.put(bytes, begin, end); });
  return rewrite.take();
}

MarkKind mark_kind(char32_t value) {
  switch (category_of(value)) {
    case UTF8PROC_CATEGORY_MN:
      return MarkKind::nonspacing;
    case UTF8PROC_CATEGORY_MC:
      return MarkKind::spacing;
    case UTF8PROC_CATEGORY_ME:
      return MarkKind::enclosing;
    default:
      return MarkKind::none;
  }
}

bool is_punctuation(char32_t value) {
  const int category = category_of(value);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool is_word_part(char32_t value) {
  const int category = category_of(value);
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) return true;
  const bool circled = (value >= 0x24B6 && value <= 0x24E9) || (value >= 0x1F130 && value <= 0x1F149) ||
                       (value >= 0x1F150 && value <= 0x1F169) || (value >= 0x1F170 && value <= 0x1F189);
  return circled || category == UTF8PROC_CATEGORY_PC || value == 0x200C || value == 0x200D;
}

bool is_other(char32_t value) {
  const int category = category_of(value);
  return category == UTF8PROC_CATEGORY_CN ||
         (category >= UTF8PROC_CATEGORY_CC && category <= UTF8PROC_CATEGORY_CO);
}

char32_t to_lower(char32_t value) {
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(value)));
}

std::string unicode_version() {
  return utf8proc_unicode_version();
}

std::vector<size_t> grapheme_ends(std::string_view text) {
  std::vector<size_t> ends;
  utf8proc_int32_t state = 0;
  char32_t before = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    const char32_t value = point.kind == CodePoint::Kind::valid ? point.value : 0xFFFD;
    if (at > 0 && utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(before),
                                                   static_cast<utf8proc_int32_t>(value), &state))
      ends.push_back(at);
    before = value;
    at += point.kind == CodePoint::Kind::valid ? point.bytes : 1;
  }
  if (!text.empty()) ends.push_back(text.size());
  return ends;
}

}  // namespace llmctl
