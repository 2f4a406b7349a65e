// SPDX-License-Identifier: Apache-2.0
// Records on disk, between the stages of a run and beside packed shards: written once, read in order, by
// place or by id.
//
// Little-endian: "LLMREC1\0"; blocks of about 1 MiB of records, zstd; an index of one entry a block (offset
// in the file, bytes there, bytes unpacked, place of its first record, first and last id, checksum of the
// bytes in the file); then u64 offset of the index, u64 blocks, u64 records, 16 bytes digest, u64 checksum of
// the index and of these, "LLMREC1\0". Checksums are XXH3. A record: u64 number, offset, length; u32 file;
// u8 kind; text, url, date, licence, source, language, each u32 bytes and the bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/base/digest.h"
#include "core/base/file.h"
#include "data/records/record.h"

namespace llmctl {

// The file appears complete at commit() or not at all.
class RecordFileWriter {
 public:
  RecordFileWriter(const fs::path& path, bool overwrite);
  ~RecordFileWriter();
  void add(const Record& record);  // Error{input} for a string of 4 GiB and more
  uint64_t records() const;
  uint64_t bytes() const;  // of text so far
  Digest commit();         // of the records, whatever zstd made of them

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Error{input} naming the file and the block for anything that is not as it was written.
// Threads: const methods from many at once.
class RecordFile {
 public:
  explicit RecordFile(const fs::path& path);
  uint64_t records() const;
  uint64_t blocks() const;
  Digest digest() const;
  uint64_t first_of(uint64_t block) const;  // place of its first record
  uint64_t block_of(uint64_t place) const;  // blocks() behind the last
  std::vector<Record> block(uint64_t number) const;
  void read(const std::function<void(Record&&)>& sink) const;  // all, in order
  Record at(uint64_t place) const;                             // Error{usage} beyond the last
  // Where ids rise, as they do in what stages write; none when no record has it.
  std::optional<Record> find(uint64_t id) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace llmctl
