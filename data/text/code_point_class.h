// SPDX-License-Identifier: Apache-2.0
// What the split patterns ask of a code point: its general category in groups, and Unicode's
// White_Space. The data is Unicode 16.0.0, taken by probing every code point through the two engines
// that tokenizer files were made with, which agree on all of them: tiktoken 0.14.0 (Rust regex) and
// Hugging Face tokenizers 0.23.3. PCRE2, the referee, may be older (10.42: Unicode 14): what it calls
// unassigned may be a letter here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace llmctl {

inline constexpr const char* kCodePointClassUnicode = "16.0.0";

// Every code point is in exactly one.
enum class CharClass : uint8_t {
  other,    // control, format, private, unassigned
  upper,    // Lu, Lt
  lower,    // Ll
  letter,   // Lm, Lo
  mark,     // M
  number,   // N
  punct,    // P
  symbol,   // S; and every byte that is no UTF-8, which counts as U+FFFD
  space,    // White_Space but for the next two
  blank,    // U+0020
  newline,  // U+000A, U+000D
};

// Two levels: blocks of 64 code points.
struct CharClassTable {
  std::array<uint16_t, 0x110000 / 64> block{};
  std::array<CharClass, size_t{64} * 1024> classes{};
  CharClass of(char32_t value) const { return classes[block[value >> 6] * size_t{64} + (value & 63)]; }
};
const CharClassTable& char_classes();  // built at the first call

struct ClassedChar {
  CharClass cls = CharClass::other;
  uint8_t bytes = 1;
  char32_t value = 0xFFFD;
};

// The code point at p < end, by RFC 3629; a byte that begins none is one symbol.
inline ClassedChar classed_char(const CharClassTable& table, const uint8_t* p, const uint8_t* end) {
  const uint32_t a = *p;
  if (a < 0x80) return {table.classes[table.block[a >> 6] * size_t{64} + (a & 63)], 1, a};
  const ptrdiff_t left = end - p;
  const auto tail = [p](int i) { return (p[i] & 0xC0) == 0x80; };
  if (a < 0xE0) {
    if (a < 0xC2 || left < 2 || !tail(1)) return {CharClass::symbol, 1, 0xFFFD};
    const char32_t value = (a & 31) << 6 | (p[1] & 63u);
    return {table.of(value), 2, value};
  }
  if (a < 0xF0) {
    if (left < 3 || !tail(1) || !tail(2)) return {CharClass::symbol, 1, 0xFFFD};
    const char32_t value = (a & 15) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
    if (value < 0x800 || (value >= 0xD800 && value < 0xE000)) return {CharClass::symbol, 1, 0xFFFD};
    return {table.of(value), 3, value};
  }
  if (a > 0xF4 || left < 4 || !tail(1) || !tail(2) || !tail(3)) return {CharClass::symbol, 1, 0xFFFD};
  const char32_t value = (a & 7) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
  if (value < 0x10000 || value >= 0x110000) return {CharClass::symbol, 1, 0xFFFD};
  return {table.of(value), 4, value};
}

}  // namespace llmctl
