// SPDX-License-Identifier: Apache-2.0
// A source file's bytes as a window that moves on, member by member, and what the readers of the formats
// share. Memory is bounded by what a reader asks to see at once.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "core/base/members.h"
#include "data/web/ingest.h"

namespace llmctl {

class SourceBytes {
 public:
  SourceBytes(std::string_view raw, Packing packing)
      : members_(raw, packing), packed_(packing != Packing::none) {}
  bool next_member();
  // What is in the window: at least `want` bytes unless the member ends before.
  std::string_view peek(size_t want);
  void drop(size_t n);                             // n at most what the last peek() gave
  bool ended() const { return ended_; }            // all of the member is in the window
  uint64_t position() const { return position_; }  // of the window: bytes unpacked before it, of all members
  const MemberReader& members() const { return members_; }
  bool packed() const { return packed_; }

 private:
  MemberReader members_;
  bool packed_, ended_ = true;
  std::string buffer_;
  size_t at_ = 0;
  uint64_t position_ = 0;
};

// Where readers of a format put what they find.
struct IngestSink {
  uint32_t file;
  const IngestOptions& options;
  const std::function<void(Record&&)>& give;
  IngestCounts counts;
  uint64_t number = 0;  // of the next record

  Record record() const;              // with file, number and the options' source and licence
  void skip(const std::string& why);  // one record, by name
  void repaired(const char* how) { ++counts.repaired[how]; }
  void put(Record&& record);
};

void read_warc(SourceBytes& bytes, IngestSink& sink);
void read_json_lines(SourceBytes& bytes, IngestSink& sink);

// NUL among the first 1024 bytes: no text.
bool is_binary(std::string_view text);
bool looks_like_html(std::string_view text);

}  // namespace llmctl
