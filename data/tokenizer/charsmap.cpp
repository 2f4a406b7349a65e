// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/charsmap.h"

#include <cstring>

#include "kernels/error.h"

namespace llmctl {

namespace {

uint32_t offset_of(uint32_t unit) {
  return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

}  // namespace

Charsmap::Charsmap(std::string_view bytes) {
  uint32_t size = 0;
  const bool header = bytes.size() > 4;
  if (header) std::memcpy(&size, bytes.data(), 4);
  check(header && size >= 4 && size % 4 == 0 && size < bytes.size() - 4, Code::input,
        "[tokenizer] precompiled_charsmap of ", bytes.size(), " bytes says its trie has ", size);
  units_.resize(size / 4);
  std::memcpy(units_.data(), bytes.data() + 4, size);
  replacements_ = bytes.substr(4 + size);
  check(replacements_.back() == '\0', Code::input,
        "[tokenizer] precompiled_charsmap ends inside a replacement");
}

std::optional<Charsmap::Hit> Charsmap::find(std::string_view text, bool longest) const {
  if (units_.empty()) return std::nullopt;
  std::optional<Hit> hit;
  uint32_t at = offset_of(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    at ^= byte;
    if (byte == 0 || at >= units_.size()) break;
    const uint32_t unit = units_[at];
    if ((unit & (1u << 31 | 0xFF)) != byte) break;
    at ^= offset_of(unit);
    if (at >= units_.size()) break;
    if (!(unit >> 8 & 1)) continue;  // nothing ends here
    const uint32_t value = units_[at] & ~(1u << 31);
    if (value >= replacements_.size()) break;
    hit = Hit{i + 1, std::string_view(replacements_.c_str() + value)};
    if (!longest) break;
  }
  return hit;
}

}  // namespace llmctl
