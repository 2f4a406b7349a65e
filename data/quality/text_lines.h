// SPDX-License-Identifier: Apache-2.0
// Lines, ends and substrings of text as the published filters (written in Python) see them.
#pragma once

#include <cstdint>
#include <string_view>

namespace llmctl {

// Calls line(std::string_view) for each line of valid UTF-8 as str.splitlines cuts: at \n, \r, \r\n, \v, \f,
// U+001C to U+001E, U+0085, U+2028 and U+2029; a break at the end begins no further line.
template <class F>
void for_each_line(std::string_view text, F&& line) {
  size_t begin = 0, i = 0;
  const auto byte = [&](size_t k) { return k < text.size() ? static_cast<unsigned char>(text[k]) : 0u; };
  while (i < text.size()) {
    const unsigned c = byte(i);
    size_t wide = 0;
    if (c < 0x20)
      wide = c == '\r' && byte(i + 1) == '\n'                       ? 2
             : (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) ? 1
                                                                    : 0;
    else if (c == 0xC2 && byte(i + 1) == 0x85)
      wide = 2;
    else if (c == 0xE2 && byte(i + 1) == 0x80 && (byte(i + 2) == 0xA8 || byte(i + 2) == 0xA9))
      wide = 3;
    if (wide == 0) {
      ++i;
      continue;
    }
    line(text.substr(begin, i - begin));
    begin = i += wide;
  }
  if (begin < text.size()) line(text.substr(begin));
}

// Without white space (kSpace) at the start, the end, or both. Valid UTF-8.
std::string_view strip_left(std::string_view text);
std::string_view strip_right(std::string_view text);
inline std::string_view strip(std::string_view text) {
  return strip_right(strip_left(text));
}

// Occurrences that do not overlap.
uint64_t count_of(std::string_view text, std::string_view piece);
// `piece` is of small ASCII letters, spaces and marks; ASCII letters of the text match in either case.
bool contains_any_case(std::string_view text, std::string_view piece);
uint8_t last_class(std::string_view text);  // class of the last code point; 0 for no text

}  // namespace llmctl
