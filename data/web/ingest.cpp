// SPDX-License-Identifier: Apache-2.0
#include "data/web/ingest.h"

#include "data/web/charset.h"
#include "data/web/source_bytes.h"

namespace llmctl {
namespace {

enum class Format { warc, jsonl, text, markdown, html };

struct Named {
  const char* name;
  Format format;
};
constexpr Named kFormats[] = {{"warc", Format::warc},         {"wet", Format::warc},
                              {"jsonl", Format::jsonl},       {"text", Format::text},
                              {"markdown", Format::markdown}, {"html", Format::html}};
constexpr Named kEndings[] = {
    {".warc", Format::warc},    {".wet", Format::warc},          {".jsonl", Format::jsonl},
    {".ndjson", Format::jsonl}, {".txt", Format::text},          {".text", Format::text},
    {".md", Format::markdown},  {".markdown", Format::markdown}, {".html", Format::html},
    {".htm", Format::html},     {".xhtml", Format::html}};

Format format_of(const fs::path& file, const IngestOptions& options, std::string_view raw, Packing packing) {
  for (const Named& f : kFormats)
    if (options.format == f.name) return f.format;
  check(options.format == "auto", Code::usage, "[ingest] unknown format \"", options.format,
        "\": auto, warc, wet, jsonl, text, markdown or html");
  const std::string ending = (packing == Packing::none ? file : file.stem()).extension().string();
  for (const Named& e : kEndings)
    if (ending == e.name) return e.format;
  SourceBytes probe(raw, packing);
  if (!probe.next_member()) return Format::text;
  const std::string_view head = probe.peek(1024);
  if (head.substr(0, 7) == "WARC/1.") return Format::warc;
  const size_t first = head.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && head[first] == '{') return Format::jsonl;
  return looks_like_html(head) ? Format::html : Format::text;
}

// The whole file is one record.
void read_whole(SourceBytes& bytes, Format format, IngestSink& sink) {
  std::string text;
  bool damaged = false;
  uint64_t size = 0;
  while (bytes.next_member()) {
    for (std::string_view window; !(window = bytes.peek(1)).empty(); bytes.drop(window.size())) {
      size += window.size();
      if (size <= sink.options.max_record_bytes) text += window;
    }
    damaged |= !bytes.members().damage().empty();
  }
  sink.counts.lost_bytes += bytes.members().lost();
  if (damaged) return sink.skip("damaged_member");
  if (size > sink.options.max_record_bytes) return sink.skip("too_large");
  Decoded decoded = decode_text(text, "", format == Format::html);
  if (is_binary(decoded.text)) return sink.skip("binary");
  if (decoded.text.find_first_not_of(" \t\r\n") == std::string::npos) return sink.skip("empty");
  if (decoded.invalid) sink.repaired("invalid_text");
  if (decoded.unknown_charset) sink.repaired("unknown_charset");
  Record r = sink.record();
  r.length = size;
  r.kind = format == Format::html       ? RecordKind::html
           : format == Format::markdown ? RecordKind::markdown
                                        : RecordKind::text;
  r.text = std::move(decoded.text);
  sink.put(std::move(r));
}

}  // namespace

void IngestCounts::add(const IngestCounts& other) {
  records += other.records;
  seen += other.seen;
  lost_bytes += other.lost_bytes;
  for (const auto& [name, n] : other.skipped) skipped[name] += n;
  for (const auto& [name, n] : other.repaired) repaired[name] += n;
}

IngestCounts read_records(const fs::path& file, uint32_t file_number, const IngestOptions& options,
                          const std::function<void(Record&&)>& give) {
  const FileMap map(file);
  const std::string_view raw(reinterpret_cast<const char*>(map.data()), map.size());
  const Packing packing = packing_of(file);
  const Format format = format_of(file, options, raw, packing);
  IngestSink sink{file_number, options, give, {}, 0};
  SourceBytes bytes(raw, packing);
  if (format == Format::warc)
    read_warc(bytes, sink);
  else if (format == Format::jsonl)
    read_json_lines(bytes, sink);
  else
    read_whole(bytes, format, sink);
  return sink.counts;
}

}  // namespace llmctl
