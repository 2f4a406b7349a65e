// SPDX-License-Identifier: Apache-2.0
// The file between the two stages of minhash.h. Little-endian, every part a multiple of 8 bytes:
//   header   MinhashHeader
//   entries  MinhashEntry, u64 keys[bands], u32 shingles[count] (in the text's order) and padding; for each
//            document that has a word
//   end      MinhashEnd
// Every entry carries a checksum of itself, the end one of all those, so a cut, damaged or mixed-up file is
// found: Error{input} naming it, Error{io} when it cannot be read.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/base/file.h"
#include "data/dedup/minhash.h"

namespace llmctl {

struct MinhashHeader {
  char magic[8] = {'L', 'L', 'M', 'm', 'h', '0', '0', '1'};
  uint64_t seed = 0;
  uint32_t unit = 0, n = 0, bands = 0, rows = 0, digits_to_zero = 0, zero = 0;
  bool operator==(const MinhashHeader&) const = default;
};
MinhashHeader header_of(const MinhashOptions& options);

struct MinhashEntry {
  uint64_t id = 0;
  uint32_t priority = 0, count = 0;
  uint64_t check = 0;
};
uint64_t entry_bytes(const MinhashEntry& entry, uint32_t bands);

struct MinhashEnd {
  char magic[8] = {'L', 'L', 'M', 'm', 'h', 'E', 'N', 'D'};
  uint64_t documents = 0, empty = 0;
  Digest digest;  // of the header, chained with each entry's check, `documents` and `empty`
};
Digest chained(const Digest& digest, uint64_t word);

// A document's entry with what follows it.
struct MinhashDocument {
  MinhashEntry entry;
  std::vector<uint64_t> keys;
  std::vector<uint32_t> shingles;
};
// The bytes of an entry, with its checksum set.
std::string entry_text(MinhashDocument& document);

// Threads: read_at() from any; next() from one.
class MinhashFile {
 public:
  MinhashFile(const fs::path& path, const MinhashOptions& options);
  ~MinhashFile();
  const MinhashEnd& end() const;
  uint64_t bytes() const;
  // The entry at `offset` as next() gave it.
  void read_at(uint64_t offset, MinhashDocument& out) const;
  // The next entry and where it stands; false when all were read and they were what was written.
  bool next(MinhashDocument& out, uint64_t& offset);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace llmctl
