// SPDX-License-Identifier: Apache-2.0
#include "core/base/digest.h"

#include <xxhash.h>

#include <fstream>
#include <memory>
#include <vector>

namespace llmctl {

Digest digest_of(const void* data, uint64_t bytes) {
  XXH128_hash_t h = XXH3_128bits(data, bytes);
  return {h.low64, h.high64};
}

// Through a buffer: a mapped file would count as memory of the process, gigabytes of it at a checkpoint.
Digest digest_of_file(const fs::path& path) {
  const FileMap file(path);  // says what is wrong with the path
  std::ifstream in(path, std::ios::binary);
  DigestStream stream;
  std::vector<char> buffer(size_t{1} << 20);
  uint64_t total = 0;
  while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), in.gcount() > 0) {
    stream.update(buffer.data(), static_cast<uint64_t>(in.gcount()));
    total += static_cast<uint64_t>(in.gcount());
  }
  check(total == file.size(), Code::io, "[digest] ", path.string(), ": read ", total, " bytes of ", file.size());
  return stream.take();
}

struct DigestStream::State {
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> hash{XXH3_createState(), XXH3_freeState};
};

DigestStream::DigestStream() : state_(std::make_unique<State>()) {
  check(state_->hash && XXH3_128bits_reset(state_->hash.get()) == XXH_OK, Code::memory,
        "[digest] no memory for a state");
}
DigestStream::~DigestStream() = default;

void DigestStream::update(const void* data, uint64_t bytes) {
  XXH3_128bits_update(state_->hash.get(), data, static_cast<size_t>(bytes));
}

Digest DigestStream::take() {
  const XXH128_hash_t h = XXH3_128bits_digest(state_->hash.get());
  XXH3_128bits_reset(state_->hash.get());
  return {h.low64, h.high64};
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
