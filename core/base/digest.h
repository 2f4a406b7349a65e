// SPDX-License-Identifier: Apache-2.0
// 128-bit digests of bytes and files (XXH3-128), printed as 32 hex digits. Not cryptographic.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/file.h"

namespace llmctl {

struct Digest {
  uint64_t low = 0, high = 0;
  bool operator==(const Digest&) const = default;
  Digest& operator+=(const Digest& o) {  // mod 2^128: order-free
    low += o.low;
    high += o.high + (low < o.low ? 1 : 0);
    return *this;
  }
  std::string hex() const;
  static Digest from_hex(std::string_view text);  // Error{input}
};
Digest digest_of(const void* data, uint64_t bytes);
inline Digest digest_of(std::string_view text) {
  return digest_of(text.data(), text.size());
}
Digest digest_of_file(const fs::path& path);

// The digest of bytes that come one after the other.
class DigestStream {
 public:
  DigestStream();
  ~DigestStream();
  void update(const void* data, uint64_t bytes);
  Digest take();  // of all since the last take()

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace llmctl
