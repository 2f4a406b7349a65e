// SPDX-License-Identifier: Apache-2.0
// Finders of one kind of personal data at one place of a text. Each returns the end of what begins at `at`,
// or 0, and looks at a bounded number of bytes unless it returns an end (which scrub then skips to).
#pragma once

#include <cstdint>
#include <string_view>

namespace llmctl {

enum ByteClass : uint8_t { kLetterByte = 1, kDigitByte = 2, kHexByte = 4, kLocalByte = 8, kValueByte = 16 };
extern const uint8_t* const kByteClass;  // [256]
inline bool is_byte(char c, uint8_t bits) {
  return (kByteClass[static_cast<uint8_t>(c)] & bits) != 0;
}
inline char byte_at(std::string_view t, size_t i) {
  return i < t.size() ? t[i] : '\0';
}

// `at` is the place of an @; `begin` is set to where the local part begins, not before `from`.
size_t email_end(std::string_view text, size_t at, size_t from, size_t& begin);
size_t public_ipv4_end(std::string_view text, size_t at);
size_t public_ipv6_end(std::string_view text, size_t at);
size_t phone_end(std::string_view text, size_t at);
size_t card_end(std::string_view text, size_t at);
size_t token_end(std::string_view text, size_t at);  // keys known by their beginning, PEM, JWT
// `at` is the place of = or :; `begin` is set to where the value begins.
size_t assigned_secret_end(std::string_view text, size_t at, size_t& begin);

}  // namespace llmctl
