// SPDX-License-Identifier: Apache-2.0
// The members of a compressed file (gzip members of RFC 1952, zstd frames of RFC 8878) one after another,
// each with the bytes of the file that it covers, going on behind a damaged one; and packed bytes in memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/file.h"

namespace llmctl {

enum class Packing : uint8_t { none, gzip, zstd };
Packing packing_of(const fs::path& file);  // .gz, .zst or neither

// Never throws on damage. A member that is damaged or cut gives what could be unpacked and then says why;
// next() looks for the next place behind its beginning where a member can be read (at least its first
// byte unpacks). The work is linear in the file: searches that cost more than four times the bytes read
// give up what lies before the damage. One thread.
class MemberReader {
 public:
  // `raw` must outlive the reader. Packing::none: one member, the bytes themselves.
  MemberReader(std::string_view raw, Packing packing);
  ~MemberReader();
  bool next();                        // to the next member, dropping what was not read; false at the end
  size_t read(char* out, size_t n);   // up to n bytes of this member; 0 when it ends or is damaged
  uint64_t begin() const;             // first byte of the member in `raw`
  uint64_t end() const;               // behind the last byte that was unpacked so far
  const std::string& damage() const;  // of this member; "" for none
  uint64_t lost() const;              // bytes of `raw` that no member covered, so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Unpacks gzip, zlib or raw deflate (as HTTP's "deflate" is met in practice: zlib, else raw), appending to
// `out` up to `max_bytes`. What was unpacked before a fault stays in `out`.
enum class Unpacked : uint8_t { whole, cut, damaged, too_large };
Unpacked inflate_bytes(std::string_view packed, uint64_t max_bytes, std::string& out);

}  // namespace llmctl
