// SPDX-License-Identifier: Apache-2.0
// UTF-8 one code point at a time (RFC 3629: no surrogates, no overlong forms, nothing above
// U+10FFFF), for text that may hold any bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace llmctl {

struct CodePoint {
  enum class Kind : uint8_t { valid, invalid, cut };  // cut: text ends inside a valid beginning
  Kind kind = Kind::invalid;
  uint8_t bytes = 1;   // bytes covered; for invalid and cut the longest valid beginning, at least 1
  char32_t value = 0;  // only when valid
};

// The code point at text[at]; at < text.size().
CodePoint code_point_at(std::string_view text, size_t at);
bool is_utf8(std::string_view text);
void append_utf8(std::string& out, char32_t value);
// Unicode White_Space, as \s means in the split patterns.
bool is_white_space(char32_t value);

}  // namespace llmctl
