// SPDX-License-Identifier: Apache-2.0
// Sources into records: WARC 1.0/1.1 and WET, JSON lines, plain text, Markdown and HTML files, each plain,
// .gz or .zst. Text is UTF-8 when it leaves here. What cannot be used is counted by name and passed over;
// what can be mended is mended by the rules below and counted by name. Memory is bounded by max_record_bytes.
//
// Numbers: every record, line or file counts, used or not, so a number does not depend on the options.
// WARC (ISO 28500): `response`, `resource` and `conversion` records of HTML, XHTML, plain text or Markdown;
//   a missing payload type is sniffed. A record is skipped as request, warcinfo, metadata, revisit or
//   record_type (others); http_status (not 200 or 203); payload_type; content_encoding (not gzip, deflate or
//   identity); binary; empty; too_large; bad_header (no header block of WARC).
//   Content-Length is believed when a record or the end of the member follows it. Otherwise (content_length)
//   the record ends at the next line "WARC/1.x" behind an empty line, or at the end of its member.
//   Header fields follow RFC 7230: names in any case, folded lines joined; <uri> loses its brackets.
//   Transfer-Encoding chunked is undone (a bad size ends the body there: chunk_size; a body that is not
//   chunked is taken as it is: not_chunked). Content-Encoding is undone (a body that is not packed is taken
//   as it is: not_packed; a cut or damaged one up to the fault: packed_body).
// Members: a damaged or cut gzip member or zstd frame loses the record it holds (damaged_member), and
//   reading goes on at the next place where a member can be read.
// JSON lines: an object with a string text_field; else bad_json or no_text. Lines of blanks are empty.
//   A line longer than max_record_bytes is too_large, whatever its length.
// Charset: byte order mark, then the charset of the HTTP header, then <meta> (first 4096 bytes), then UTF-8
//   when valid, then windows-1252. ISO-8859-1 means windows-1252, as in browsers. Invalid sequences become
//   U+FFFD, one for each longest valid beginning (invalid_text). A charset that nobody knows counts as none
//   (unknown_charset).
#pragma once

#include <functional>
#include <map>
#include <string>

#include "core/base/file.h"
#include "data/records/record.h"

namespace llmctl {

struct IngestOptions {
  // warc (also WET), jsonl, text, markdown, html; auto: by the name below .gz and .zst, then by first bytes.
  std::string format = "auto";
  std::string text_field = "text";                 // of a JSON line
  uint64_t max_record_bytes = uint64_t{64} << 20;  // unpacked: a WARC block, a line, a file
  std::string source, licence;                     // of every record that names none
};

struct IngestCounts {
  uint64_t records = 0;                      // given to the sink
  uint64_t seen = 0;                         // records + sum of skipped
  std::map<std::string, uint64_t> skipped;   // by the names above
  std::map<std::string, uint64_t> repaired;  // of those given
  uint64_t lost_bytes = 0;                   // of the file, between damage and the next member
  void add(const IngestCounts& other);
};

// Calls `sink` for each record in order. Error{input} when the file cannot be opened, Error{usage} for an
// unknown format. What the sink throws passes through. Any number of threads, each on its own file.
IngestCounts read_records(const fs::path& file, uint32_t file_number, const IngestOptions& options,
                          const std::function<void(Record&&)>& sink);

}  // namespace llmctl
