// SPDX-License-Identifier: Apache-2.0
#include "data/quality/text_lines.h"

#include <cstring>

#include "data/text/char_class.h"

namespace llmctl {
namespace {

size_t last_begin(std::string_view text) {
  size_t at = text.size() - 1;
  while ((static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

}  // namespace

uint8_t last_class(std::string_view text) {
  if (text.empty()) return 0;
  size_t at = last_begin(text);
  return char_class(next_code_point(text, at));
}

std::string_view strip_left(std::string_view text) {
  while (!text.empty()) {
    size_t at = 0;
    if ((char_class(next_code_point(text, at)) & kSpace) == 0) break;
    text.remove_prefix(at);
  }
  return text;
}

std::string_view strip_right(std::string_view text) {
  while (!text.empty() && (last_class(text) & kSpace) != 0) text = text.substr(0, last_begin(text));
  return text;
}

uint64_t count_of(std::string_view text, std::string_view piece) {
  uint64_t n = 0;
  for (size_t at = text.find(piece); at != std::string_view::npos; at = text.find(piece, at + piece.size()))
    ++n;
  return n;
}

bool contains_any_case(std::string_view text, std::string_view piece) {
  if (text.size() < piece.size()) return false;
  // By the piece's first letter in either case, which memchr finds quickly.
  const char small = piece[0], large = small >= 'a' && small <= 'z' ? static_cast<char>(small - 0x20) : small;
  const size_t last = text.size() - piece.size();
  for (const char first : {small, large}) {
    for (size_t i = 0; i <= last; ++i) {
      const void* hit = std::memchr(text.data() + i, first, last - i + 1);
      if (hit == nullptr) break;
      i = static_cast<size_t>(static_cast<const char*>(hit) - text.data());
      size_t k = 1;
      while (k < piece.size() && lower(text[i + k]) == piece[k]) ++k;
      if (k == piece.size()) return true;
    }
    if (small == large) break;
  }
  return false;
}

}  // namespace llmctl
