// SPDX-License-Identifier: Apache-2.0
#include "core/base/digest.h"

#include <xxhash.h>

namespace llmctl {

Digest digest_of(const void* data, uint64_t bytes) {
  XXH128_hash_t h = XXH3_128bits(data, bytes);
  return {h.low64, h.high64};
}

Digest digest_of_file(const fs::path& path) {
  FileMap map(path);
  return digest_of(map.data(), map.size());
}

std::string Digest::hex() const {
  std::string text(32, '0');
  for (size_t i = 0; i < 32; ++i) {
    uint64_t word = i < 16 ? high : low;
    text[i] = "0123456789abcdef"[(word >> (60 - 4 * (i % 16))) & 15];
  }
  return text;
}

Digest Digest::from_hex(std::string_view text) {
  check(text.size() == 32, Code::input, "[digest] ", text, ": expected 32 hex digits, got ", text.size());
  uint64_t words[2] = {0, 0};
  for (size_t i = 0; i < 32; ++i) {
    char c = text[i];
    int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    check(digit >= 0, Code::input, "[digest] ", text, ": not a lower-case hex digit at ", i);
    words[i / 16] = words[i / 16] << 4 | static_cast<uint64_t>(digit);
  }
  return {words[1], words[0]};
}

}  // namespace llmctl
