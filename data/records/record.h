// SPDX-License-Identifier: Apache-2.0
// A document of a corpus on its way from a source to a shard, and where it came from. `data run` reads
// sources into records, and every stage after that speaks of a document by its id.
#pragma once

#include <cstdint>
#include <string>

namespace llmctl {

// What a source file held at one place, before extraction.
enum class RecordKind : uint8_t { text, markdown, html };

struct Record {
  // Number of the source file in the run's list (sorted as the config says), and of the record in it
  // from 0. The same for any thread count and after any restart.
  uint32_t file = 0;
  uint64_t number = 0;
  // Bytes [offset, offset + length) of the file hold the record: of the file as it lies on the disk for
  // WARC members, of what unpacking gives for lines of a compressed file.
  uint64_t offset = 0, length = 0;
  RecordKind kind = RecordKind::text;
  std::string text;  // UTF-8; HTML until it is extracted
  // As the source says, "" when it does not.
  std::string url, date, licence, source, language;

  uint64_t id() const { return uint64_t{file} << 40 | number; }  // fewer than 2^40 records a file
};

}  // namespace llmctl
