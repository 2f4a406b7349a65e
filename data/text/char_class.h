// SPDX-License-Identifier: Apache-2.0
// What a code point is to the rules that judge text, as bits of one byte. Unicode data: utf8proc's; the
// punctuation set is datatrove's (which counts the fullwidth one, U+FF11, as cc_net's table did), since
// published thresholds were found with it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace llmctl {

enum CharClass : uint8_t {
  kSpace = 1,         // White_Space, and U+001C to U+001F as Python's str.isspace
  kAlpha = 2,         // general category L
  kDigit = 4,         // general category Nd
  kUpper = 8,         // Lu, Lt
  kSymbol = 16,       // in datatrove's punctuation set
  kPunctuation = 32,  // general category P
  kMark = 64,         // taken off the ends of a word: P or S, except what is common inside words (- / @ ...)
  kTerminal = 128,    // ends a sentence, as FineWeb counts it (Unicode Sentence_Terminal and a few)
};

uint8_t char_class(char32_t value);
extern const uint8_t kAsciiClass[128];

// The code point at text[at] of valid UTF-8; `at` moves past it.
inline char32_t next_code_point(std::string_view text, size_t& at) {
  const auto b = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t c = b(at);
  if (c < 0x80) return b(at++);
  if (c < 0xE0) return at += 2, static_cast<char32_t>((c & 31) << 6 | (b(at - 1) & 63));
  if (c < 0xF0)
    return at += 3, static_cast<char32_t>((c & 15) << 12 | (b(at - 2) & 63) << 6 | (b(at - 1) & 63));
  return at += 4, static_cast<char32_t>((c & 7) << 18 | (b(at - 3) & 63) << 12 | (b(at - 2) & 63) << 6 |
                                        (b(at - 1) & 63));
}
// Code points of valid UTF-8.
uint64_t count_code_points(std::string_view text);
// The same text where it is UTF-8; each longest beginning of a code point that is cut short, and each other
// byte that is none, becomes U+FFFD.
std::string valid_utf8(std::string_view text);

}  // namespace llmctl
