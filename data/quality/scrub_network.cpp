// SPDX-License-Identifier: Apache-2.0
// E-mail and IP addresses.
#include <algorithm>
#include <array>

#include "data/quality/scrub_finders.h"

namespace llmctl {
namespace {

constexpr std::array<uint8_t, 256> kClasses = [] {
  std::array<uint8_t, 256> t{};
  for (int c = '0'; c <= '9'; ++c) t[c] = kDigitByte | kHexByte | kLocalByte | kValueByte;
  for (int c = 'a'; c <= 'z'; ++c) t[c] = t[c - 32] = kLetterByte | kLocalByte | kValueByte;
  for (int c = 'a'; c <= 'f'; ++c) t[c] = t[c - 32] |= kHexByte;
  for (const char c :
       {'!', '#', '$', '%', '&', '\'', '*', '+', '/', '=', '?', '^', '_', '`', '{', '|', '}', '~', '-', '.'})
    t[static_cast<uint8_t>(c)] |= kLocalByte;
  for (const char c : {'+', '/', '=', '_', '-', '.', '~'}) t[static_cast<uint8_t>(c)] |= kValueByte;
  return t;
}();

bool in_block(uint32_t address, uint32_t block, int bits) {
  return (address ^ block) >> (32 - bits) == 0;
}

// IANA's special-purpose registry, and multicast: addresses of nobody.
bool is_public(uint32_t a) {
  struct Block {
    uint32_t base;
    int bits;
  };
  constexpr Block kSpecial[] = {{0x00000000, 8},  {0x0A000000, 8},  {0x64400000, 10}, {0x7F000000, 8},
                                {0xA9FE0000, 16}, {0xAC100000, 12}, {0xC0000000, 24}, {0xC0000200, 24},
                                {0xC0586300, 24}, {0xC0A80000, 16}, {0xC6120000, 15}, {0xC6336400, 24},
                                {0xCB007100, 24}, {0xE0000000, 4},  {0xF0000000, 4}};
  return std::none_of(std::begin(kSpecial), std::end(kSpecial),
                      [&](Block b) { return in_block(a, b.base, b.bits); });
}

bool is_public(const std::array<uint16_t, 8>& g) {
  if ((g[0] & 0xE000) != 0x2000) return false;                          // global unicast
  if (g[0] == 0x2001 && (g[1] < 0x200 || g[1] == 0xDB8)) return false;  // protocols, documentation
  return g[0] != 0x2002 && (g[0] != 0x3FFF || g[1] >= 0x1000);          // 6to4, documentation
}

// One to three digits below 256 without a leading zero; returns their end or 0.
size_t octet_end(std::string_view t, size_t i, uint32_t& value) {
  const size_t begin = i;
  value = 0;
  while (i < t.size() && i - begin < 4 && is_byte(t[i], kDigitByte))
    value = value * 10 + static_cast<uint32_t>(t[i++] - '0');
  const size_t digits = i - begin;
  if (digits == 0 || digits > 3 || value > 255 || (digits > 1 && t[begin] == '0')) return 0;
  return i;
}

size_t ipv4_end(std::string_view t, size_t i, uint32_t& address) {
  address = 0;
  for (int part = 0; part < 4; ++part) {
    uint32_t octet = 0;
    if (part > 0 && byte_at(t, i++) != '.') return 0;
    i = octet_end(t, i, octet);
    if (i == 0) return 0;
    address = address << 8 | octet;
  }
  return i;
}

}  // namespace

const uint8_t* const kByteClass = kClasses.data();

size_t email_end(std::string_view t, size_t at, size_t from, size_t& begin) {
  begin = at;
  while (begin > from && is_byte(t[begin - 1], kLocalByte)) --begin;
  // Quotes and marks before a name belong to the sentence.
  while (begin < at && !is_byte(t[begin], kLetterByte | kDigitByte) && t[begin] != '_') ++begin;
  if (begin == at || t[at - 1] == '.' || t.substr(begin, at - begin).find("..") != std::string_view::npos)
    return 0;
  size_t i = at + 1, end = 0, dots = 0;
  while (i < t.size()) {
    const size_t label = i;
    while (i < t.size() && (is_byte(t[i], kLetterByte | kDigitByte) || t[i] == '-')) ++i;
    size_t stop = i;
    while (stop > label && t[stop - 1] == '-') --stop;
    if (stop == label || t[label] == '-') break;
    const std::string_view last = t.substr(label, stop - label);
    const bool name = std::all_of(last.begin(), last.end(), [](char c) { return is_byte(c, kLetterByte); });
    if (dots > 0 && last.size() >= 2 && (name || last.starts_with("xn--"))) end = stop;
    if (stop < i || byte_at(t, i) != '.') break;
    ++dots;
    ++i;
  }
  return end;
}

size_t public_ipv4_end(std::string_view t, size_t at) {
  const char before = at > 0 ? t[at - 1] : ' ';
  if (before == '.' || before == '-' || before == '_') return 0;
  uint32_t address = 0;
  const size_t end = ipv4_end(t, at, address);
  if (end == 0 || !is_public(address)) return 0;
  const char next = byte_at(t, end);
  if (is_byte(next, kLetterByte | kDigitByte) || next == '-' || next == '_') return 0;
  if (next == '.' && is_byte(byte_at(t, end + 1), kDigitByte | kLetterByte)) return 0;
  return end;
}

size_t public_ipv6_end(std::string_view t, size_t at) {
  std::array<uint16_t, 8> groups{};
  int count = 0, gap = -1;
  size_t i = at;
  while (count < 8) {
    size_t digits = 0;
    uint32_t value = 0;
    while (digits < 5 && is_byte(byte_at(t, i + digits), kHexByte)) {
      const char c = static_cast<char>(t[i + digits] | 0x20);
      value = value << 4 | static_cast<uint32_t>(c <= '9' ? c - '0' : c - 'a' + 10);
      ++digits;
    }
    if (digits == 0 || digits > 4) break;
    groups[static_cast<size_t>(count++)] = static_cast<uint16_t>(value);
    i += digits;
    if (byte_at(t, i) != ':') break;
    if (byte_at(t, i + 1) == ':') {
      if (gap >= 0) return 0;
      gap = count;
      i += 2;
    } else if (is_byte(byte_at(t, i + 1), kHexByte) && count < 8) {
      ++i;
    } else {
      break;
    }
  }
  if (gap < 0 ? count != 8 : count > 7) return 0;
  if (gap >= 0) {
    const auto from = groups.begin() + gap, stop = groups.begin() + count;
    std::move_backward(from, stop, groups.end());
    std::fill(from, from + (8 - count), uint16_t{0});
  }
  if (is_byte(byte_at(t, i), kLetterByte | kDigitByte) || byte_at(t, i) == ':') return 0;
  return is_public(groups) ? i : 0;
}

}  // namespace llmctl
