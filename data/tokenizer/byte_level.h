// SPDX-License-Identifier: Apache-2.0
// The byte alphabet of GPT-2's vocabularies: each byte is spelled as one printable code point, so
// that any bytes can stand in a JSON string. Printable Latin-1 bytes spell themselves; the other
// 68 are spelled U+0100, U+0101, ... in byte order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llmctl {

std::string spell_bytes(std::string_view bytes);
// Nothing when a code point is outside the alphabet.
std::optional<std::string> unspell_bytes(std::string_view text);
// The 256 bytes by the code point that spells them: the order of ids in trained vocabularies.
std::vector<uint8_t> bytes_in_alphabet_order();

}  // namespace llmctl
