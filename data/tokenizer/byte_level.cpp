// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/byte_level.h"

#include <algorithm>
#include <array>

#include "data/text/utf8.h"

namespace llmctl {

namespace {

struct Alphabet {
  std::array<char32_t, 256> spelling{};
  std::array<std::string, 256> utf8;  // the same
  std::array<int16_t, 0x144> byte{};  // -1: not in the alphabet

  Alphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      spelling[b] = printable ? static_cast<char32_t>(b) : next++;
      byte[spelling[b]] = static_cast<int16_t>(b);
      append_utf8(utf8[b], spelling[b]);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet table;
  return table;
}

}  // namespace

std::string spell_bytes(std::string_view bytes) {
  const Alphabet& table = alphabet();
  std::string text;
  text.reserve(2 * bytes.size());
  for (const char c : bytes) text += table.utf8[static_cast<uint8_t>(c)];
  return text;
}

std::optional<std::string> unspell_bytes(std::string_view text) {
  const Alphabet& table = alphabet();
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    if (point.kind != CodePoint::Kind::valid || point.value >= table.byte.size()) return std::nullopt;
    const int16_t byte = table.byte[point.value];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    at += point.bytes;
  }
  return bytes;
}

std::vector<uint8_t> bytes_in_alphabet_order() {
  std::vector<uint8_t> order;
  for (const int16_t byte : alphabet().byte)
    if (byte >= 0) order.push_back(static_cast<uint8_t>(byte));
  return order;
}

}  // namespace llmctl
