// SPDX-License-Identifier: Apache-2.0
// Text without what copies differ in, for comparing documents: FineWeb's normalisation (datatrove
// simplify_text), code point by code point over the tables of utf8proc:
//   lower case (one code point to one; a capital sigma is the middle one everywhere)
//   a number, \p{Nd}+ with one decimal part ([.,] and the four other separators of datatrove), becomes 0
//   punctuation (datatrove's table, with the control characters) and white space become one space
//   canonical decomposition, and marks that take no room (Mn) are dropped
// Where it differs from datatrove: marks are dropped one code point at a time, without reordering first,
// which only spacing marks could notice; bytes that are no UTF-8 become U+FFFD. Code points
// of Unicode 14 and before are treated as datatrove treats them, one by one (compared for all below U+20000).
// Words are what stands between spaces. In scripts written without spaces (Han, kana, Thai, Lao, Khmer,
// Myanmar) each code point is a word, where datatrove asks a tokenizer of the language.
#pragma once

#include <string>
#include <string_view>

namespace llmctl {

struct SimplifyOptions {
  bool digits_to_zero = true;
};

// Words separated by one space, none at the ends. `out` is overwritten; its memory is reused.
void simplify_text(std::string_view text, const SimplifyOptions& options, std::string& out);
inline std::string simplify_text(std::string_view text, const SimplifyOptions& options = {}) {
  std::string out;
  simplify_text(text, options, out);
  return out;
}

}  // namespace llmctl
