// SPDX-License-Identifier: Apache-2.0
#include "core/base/json.h"
#include "data/web/charset.h"
#include "data/web/source_bytes.h"

namespace llmctl {
namespace {

// The first of the names that is a string, in the object or in its "metadata" or "meta".
std::string string_of(const Json& object, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto it = object.find(name);
    if (it != object.end() && it->is_string()) return it->get<std::string>();
  }
  for (const char* inner : {"metadata", "meta"}) {
    const auto it = object.find(inner);
    if (it == object.end() || !it->is_object()) continue;
    if (std::string s = string_of(*it, names); !s.empty()) return s;
  }
  return "";
}

void take_line(std::string line, uint64_t offset, uint64_t length, IngestSink& sink) {
  if (line.find_first_not_of(" \t\r") == std::string::npos) return sink.skip("empty");
  if (offset == 0 && line.compare(0, 3, "\xEF\xBB\xBF") == 0) line.erase(0, 3);
  const bool mended = mend_utf8(line);
  Json json;
  try {
    json = parse_json(line, "line");
  } catch (const Error&) {
    return sink.skip("bad_json");
  }
  if (!json.is_object()) return sink.skip("bad_json");
  const auto text = json.find(sink.options.text_field);
  if (text == json.end() || !text->is_string()) return sink.skip("no_text");
  Record r = sink.record();
  r.offset = offset;
  r.length = length;
  r.text = text->get<std::string>();
  if (r.text.find_first_not_of(" \t\r\n") == std::string::npos) return sink.skip("empty");
  if (mended) sink.repaired("invalid_text");
  r.url = string_of(json, {"url", "uri", "warc_url"});
  if (r.url.empty())
    if (const std::string id = string_of(json, {"id"}); id.find("://") != std::string::npos) r.url = id;
  r.date = string_of(json, {"date", "created", "timestamp", "date_download", "published"});
  r.language = string_of(json, {"language", "lang"});
  if (const std::string s = string_of(json, {"licence", "license"}); !s.empty()) r.licence = s;
  if (const std::string s = string_of(json, {"source"}); !s.empty()) r.source = s;
  sink.put(std::move(r));
}

}  // namespace

void read_json_lines(SourceBytes& bytes, IngestSink& sink) {
  constexpr size_t kPiece = size_t{1} << 16;
  std::string line;
  bool too_large = false;
  uint64_t start = 0;
  const auto finish = [&](uint64_t end) {
    if (too_large)
      sink.skip("too_large");
    else
      take_line(std::move(line), start, end - start, sink);
    line.clear();
    too_large = false;
  };
  while (bytes.next_member()) {  // a line may run from one member into the next
    for (;;) {
      const std::string_view window = bytes.peek(kPiece);
      if (window.empty()) break;
      const size_t newline = window.find('\n');
      const size_t n = newline == std::string_view::npos ? window.size() : newline;
      if (line.empty() && !too_large) start = bytes.position();
      if (line.size() + n > sink.options.max_record_bytes) {
        too_large = true;
        line = std::string();
      }
      if (!too_large) line.append(window.substr(0, n));
      bytes.drop(newline == std::string_view::npos ? n : n + 1);
      if (newline != std::string_view::npos) finish(bytes.position());
    }
    if (!bytes.members().damage().empty()) {  // the line that was being read is not whole
      line.clear();
      too_large = false;
      sink.skip("damaged_member");
    }
  }
  if (!line.empty() || too_large) finish(bytes.position());
  sink.counts.lost_bytes += bytes.members().lost();
}

}  // namespace llmctl
