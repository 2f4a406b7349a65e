// SPDX-License-Identifier: Apache-2.0
// Unicode normalization form C (Unicode Standard Annex 15) over the tables of Unicode 14.0. Bytes
// that are no UTF-8 pass through and separate what stands around them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace llmctl {

std::string to_nfc(std::string_view text);

// The tables, ascending by `code`. Taken from UnicodeData.txt by way of Python's unicodedata.
struct CanonicalPair {
  uint32_t code, first, second;  // one step of decomposition; second 0: a singleton
  bool composes;                 // first + second gives code again
};
struct CombiningRange {
  uint32_t first, last;
  uint8_t combining_class;
};
std::span<const CanonicalPair> canonical_pairs();
std::span<const CombiningRange> combining_ranges();

}  // namespace llmctl
