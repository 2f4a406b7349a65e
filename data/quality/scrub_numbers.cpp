// SPDX-License-Identifier: Apache-2.0
// Telephone and card numbers: digits in groups.
#include <array>

#include "data/quality/scrub_finders.h"

namespace llmctl {
namespace {

constexpr size_t kMaxDigits = 20;

// Digits in groups that one of `marks` (or, for telephones, a bracket with a space) parts.
struct Groups {
  std::array<uint8_t, kMaxDigits> digit{};
  std::array<uint8_t, kMaxDigits> size{};  // of each group
  size_t digits = 0, groups = 0, end = 0;
  bool same_mark = true;  // one mark throughout

  int number(size_t from, size_t n) const {
    int v = 0;
    for (size_t i = from; i < from + n; ++i) v = v * 10 + digit[i];
    return v;
  }
};

Groups read_groups(std::string_view t, size_t at, std::string_view marks, bool brackets) {
  Groups g;
  char mark = '\0';
  size_t i = at;
  while (g.groups < kMaxDigits) {
    size_t run = 0;
    while (is_byte(byte_at(t, i + run), kDigitByte)) {
      if (g.digits == kMaxDigits) return {};
      g.digit[g.digits++] = static_cast<uint8_t>(t[i + run++] - '0');
    }
    if (run == 0) break;
    g.size[g.groups++] = static_cast<uint8_t>(run);
    i += run;
    g.end = i;
    size_t gap = 0;
    char last = mark;
    bool same = true;
    while (gap < 3) {
      const char c = byte_at(t, i + gap);
      const bool bracket = brackets && (c == '(' || c == ')');
      if (c == '\0' || (!bracket && marks.find(c) == std::string_view::npos)) break;
      if (!bracket && gap > 0 && !brackets) break;
      if (!bracket) {
        same &= last == '\0' || last == c;
        last = c;
      }
      ++gap;
    }
    if (gap == 0 || !is_byte(byte_at(t, i + gap), kDigitByte)) break;
    g.same_mark &= same;
    mark = last;
    i += gap;
  }
  return g;
}

bool stands_alone(std::string_view t, size_t begin, size_t end) {
  const char before = begin > 0 ? t[begin - 1] : ' ', next = byte_at(t, end);
  for (const char c : {'.', '-', '_', '/', '=', '&', '%', '#', '$', ','})
    if (before == c) return false;
  if (is_byte(next, kLetterByte | kDigitByte) || next == '_' || next == '@' || next == '%') return false;
  return !((next == '-' || next == '.' || next == ',' || next == '/') &&
           is_byte(byte_at(t, end + 1), kDigitByte));
}

// NANP: area and exchange begin with 2 to 9 and are no service code (N11).
bool is_nanp(const Groups& g, size_t from) {
  const auto good = [&](size_t i) {
    return g.digit[i] >= 2 && !(g.digit[i + 1] == 1 && g.digit[i + 2] == 1);
  };
  return g.digits == from + 10 && good(from) && good(from + 3);
}

// ITU-T E.164 country codes.
bool is_country(const Groups& g) {
  const int one = g.digit[0], two = g.number(0, 2);
  if (one == 1 || one == 7) return true;
  if (one == 0) return false;
  constexpr uint8_t kTwo[] = {20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46,
                              47, 48, 49, 51, 52, 53, 54, 55, 56, 57, 58, 60, 61, 62, 63,
                              64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98};
  for (const uint8_t code : kTwo)
    if (code == two) return true;
  constexpr uint8_t kThree[] = {21, 22, 23, 24, 25, 26, 29, 35, 37, 38, 42, 50,
                                59, 67, 68, 69, 80, 85, 87, 88, 96, 97, 99};
  for (const uint8_t code : kThree)
    if (code == two) return true;
  return false;
}

bool is_us_grouping(const Groups& g) {
  const auto& s = g.size;
  if (g.groups == 3) return s[0] == 3 && s[1] == 3 && s[2] == 4;
  return g.groups == 4 && g.digit[0] == 1 && s[0] == 1 && s[1] == 3 && s[2] == 3 && s[3] == 4;
}

bool is_issuer(const Groups& g) {
  const size_t n = g.digits;
  const int two = g.number(0, 2), three = g.number(0, 3), four = g.number(0, 4);
  if (g.digit[0] == 4) return n == 13 || n == 16 || n == 19;                        // Visa
  if ((two >= 51 && two <= 55) || (four >= 2221 && four <= 2720)) return n == 16;   // Mastercard
  if (two == 34 || two == 37) return n == 15;                                       // American Express
  if (four == 6011 || (three >= 644 && three <= 649) || two == 65) return n >= 16;  // Discover
  if (four >= 3528 && four <= 3589) return n >= 16;                                 // JCB
  if ((three >= 300 && three <= 305) || two == 36 || two == 38 || two == 39)
    return n == 14 || n == 16;  // Diners
  return two == 62 && n >= 16;  // UnionPay
}

// ISO/IEC 7812-1 annex B.
bool passes_luhn(const Groups& g) {
  int sum = 0;
  for (size_t i = 0; i < g.digits; ++i) {
    int d = g.digit[g.digits - 1 - i];
    if (i % 2 == 1) d = d * 2 > 9 ? d * 2 - 9 : d * 2;
    sum += d;
  }
  return sum % 10 == 0;
}

}  // namespace

size_t phone_end(std::string_view t, size_t at) {
  const bool plus = t[at] == '+';
  size_t i = at + (plus ? 1 : 0);
  const bool bracket = byte_at(t, i) == '(';
  if (bracket && byte_at(t, ++i + 3) != ')') return 0;
  const Groups g = read_groups(t, i, " -.", true);
  if (g.digits < 8 || !stands_alone(t, at, g.end)) return 0;
  if (plus) {
    const bool good = g.digits <= 15 && is_country(g) && (g.digit[0] != 1 || is_nanp(g, 1));
    return good ? g.end : 0;
  }
  return is_us_grouping(g) && is_nanp(g, g.groups == 4 ? 1 : 0) ? g.end : 0;
}

size_t card_end(std::string_view t, size_t at) {
  if (!is_byte(t[at], kDigitByte)) return 0;
  const Groups g = read_groups(t, at, " -", false);
  if (g.digits < 13 || g.digits > 19 || !g.same_mark || !stands_alone(t, at, g.end)) return 0;
  if (g.groups > 1)  // fours, or 4-6-5 and 4-6-4
    for (size_t k = 0; k + 1 < g.groups; ++k)
      if (g.size[k] != 4 && !(k == 1 && g.size[k] == 6)) return 0;
  return is_issuer(g) && passes_luhn(g) ? g.end : 0;
}

}  // namespace llmctl
