// SPDX-License-Identifier: Apache-2.0
#include "data/text/simplify.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <memory>
#include <vector>

#include "data/text/utf8.h"

namespace llmctl {
namespace {

enum class Kind : uint8_t { space, digit, letters, word, dropped };

// datatrove's table, which also lists U+FF11 (the digit 1, full width): as a number it never gets there.
constexpr char32_t kPunctuation[] = {0x2014, 0x201D, 0xFF1A, 0xFF05, 0x3008, 0x3001, 0x2501, 0x3010, 0x300C,
                                     0x300D, 0xFF0C, 0x3011, 0xFF1B, 0x201C, 0x300A, 0x201E, 0x2019, 0x2236,
                                     0x00B4, 0xFF08, 0x2013, 0xFF1F, 0xFF01, 0xFF0E, 0xFF5E, 0x00AB, 0x3009,
                                     0x300B, 0xFF09, 0x3002, 0x2026, 0x25BA, 0x00BB};

bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return c < 0x20 || c == 0x7F ||
           (c > 0x20 && c < 0x7F &&
            !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')));
  return c < 0xA0 || std::find(std::begin(kPunctuation), std::end(kPunctuation), c) != std::end(kPunctuation);
}

bool is_decimal_separator(char32_t c) {
  return c == '.' || c == ',' || c == 0x060C || c == 0x066B || (c >= 0x2396 && c <= 0x2398);
}

// Scripts written without spaces between words.
bool is_word_alone(char32_t c) {
  return (c >= 0x0E00 && c <= 0x0EFF) || (c >= 0x1000 && c <= 0x109F) || (c >= 0x1780 && c <= 0x17FF) ||
         (c >= 0x3040 && c <= 0x30FF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x4E00 && c <= 0x9FFF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x20000 && c <= 0x3FFFF);
}

struct Entry {
  Kind kind = Kind::letters;
  uint8_t bytes = 0;
  std::array<char, 30> text{};  // simplified; the longest canonical decomposition has 4 code points
};

Entry entry_of(char32_t c) {
  Entry e;
  const auto lower = static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
  if (is_punctuation(lower) || is_white_space(lower)) {
    e.kind = Kind::space;
    return e;
  }
  if (utf8proc_category(static_cast<utf8proc_int32_t>(lower)) == UTF8PROC_CATEGORY_ND) e.kind = Kind::digit;
  std::array<utf8proc_int32_t, 16> parts{};
  int boundary = 0;
  auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(lower), parts.data(), parts.size(),
                                   UTF8PROC_DECOMPOSE, &boundary);
  if (n <= 0) n = 1, parts[0] = static_cast<utf8proc_int32_t>(lower);  // unassigned
  std::string out;
  for (utf8proc_ssize_t i = 0; i < n && i < 6; ++i)
    if (utf8proc_category(parts[static_cast<size_t>(i)]) != UTF8PROC_CATEGORY_MN)
      append_utf8(out, static_cast<char32_t>(parts[static_cast<size_t>(i)]));
  if (out.empty())
    e.kind = Kind::dropped;
  else if (e.kind != Kind::digit && is_word_alone(lower))
    e.kind = Kind::word;
  e.bytes = static_cast<uint8_t>(out.size());
  std::copy(out.begin(), out.end(), e.text.begin());
  return e;
}

// Entries of the first 65,536 code points, 2 MiB, made when the process first asks.
const Entry& entry_in_plane_zero(char32_t c) {
  static const std::vector<Entry> table = [] {
    std::vector<Entry> all(0x10000);
    for (char32_t i = 0; i < 0x10000; ++i)
      if (i < 0xD800 || i > 0xDFFF) all[i] = entry_of(i);
    return all;
  }();
  return table[c];
}

// One byte in, one out: ASCII but for digits. 0: look closer.
struct AsciiTable {
  std::array<char, 256> text{};
  AsciiTable() {
    for (char32_t c = 0; c < 128; ++c) {
      const Entry e = entry_of(c);
      if (e.kind != Kind::digit) text[c] = e.kind == Kind::space ? ' ' : e.text[0];
    }
  }
};

class Simplifier {
 public:
  Simplifier(std::string_view text, const SimplifyOptions& options, std::string& out)
      : text_(text), options_(options), out_(out) {}

  void run() {
    out_.clear();
    out_.reserve(text_.size() + 16);
    while (at_ < text_.size()) {
      ascii();
      if (at_ == text_.size()) break;
      const auto c = static_cast<uint8_t>(text_[at_]);
      if (c >= '0' && c <= '9')
        digit(static_cast<char>(c));
      else if (c >= 0x80)
        other();
    }
    if (!out_.empty() && out_.back() == ' ') out_.pop_back();
  }

 private:
  void digit(char c) {
    if (options_.digits_to_zero) return number();
    out_.push_back(c);
    ++at_;
  }

  void space() {
    if (!out_.empty() && out_.back() != ' ') out_.push_back(' ');
  }

  // Bytes of the table up to one that is not, 256 at most. No branch but that one: a space behind a space
  // is written and the place kept.
  void ascii() {
    static const AsciiTable table;
    std::array<char, 257> run;
    run[0] = out_.empty() ? ' ' : out_.back();
    char* to = run.data() + 1;
    const size_t end = std::min(text_.size(), at_ + 256);
    for (; at_ < end; ++at_) {
      const char c = table.text[static_cast<uint8_t>(text_[at_])];
      if (c == 0) break;
      *to = c;
      to += !(c == ' ' && to[-1] == ' ');
    }
    out_.append(run.data() + 1, to);
  }

  CodePoint peek(size_t at) const {
    return at < text_.size() ? code_point_at(text_, at) : CodePoint{CodePoint::Kind::invalid, 0, 0};
  }
  static bool is_digit(const CodePoint& c) {
    if (c.kind != CodePoint::Kind::valid) return false;
    if (c.value < 0x80) return c.value >= '0' && c.value <= '9';
    return utf8proc_category(static_cast<utf8proc_int32_t>(c.value)) == UTF8PROC_CATEGORY_ND;
  }
  size_t after_digits(size_t at) const {
    for (CodePoint c = peek(at); is_digit(c); c = peek(at)) at += c.bytes;
    return at;
  }

  // A number begins at at_.
  void number() {
    at_ = after_digits(at_);
    const CodePoint mark = peek(at_);
    if (mark.kind == CodePoint::Kind::valid && is_decimal_separator(mark.value)) {
      const size_t end = after_digits(at_ + mark.bytes);
      if (end > at_ + mark.bytes) at_ = end;
    }
    out_.push_back('0');
  }

  void other() {
    const CodePoint c = code_point_at(text_, at_);
    if (c.kind != CodePoint::Kind::valid) {
      append_utf8(out_, 0xFFFD);
      at_ += c.bytes;
      return;
    }
    if (c.value < 0x10000) return entry(entry_in_plane_zero(c.value), c.bytes);
    entry(entry_of(c.value), c.bytes);
  }

  void entry(const Entry& e, size_t bytes) {
    if (e.kind == Kind::digit && options_.digits_to_zero) return number();
    at_ += bytes;
    if (e.kind == Kind::space) return space();
    if (e.kind == Kind::word) space();
    out_.append(e.text.data(), e.bytes);
    if (e.kind == Kind::word) space();
  }

  std::string_view text_;
  SimplifyOptions options_;
  std::string& out_;
  size_t at_ = 0;
};

}  // namespace

void simplify_text(std::string_view text, const SimplifyOptions& options, std::string& out) {
  Simplifier(text, options, out).run();
}

}  // namespace llmctl
