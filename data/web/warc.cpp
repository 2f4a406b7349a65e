// SPDX-License-Identifier: Apache-2.0
// WARC records (ISO 28500:2017) out of members; the rules are in ingest.h.
#include <algorithm>
#include <charconv>

#include "data/web/charset.h"
#include "data/web/http.h"
#include "data/web/source_bytes.h"

namespace llmctl {
namespace {

constexpr size_t npos = std::string_view::npos;
constexpr size_t kMaxHeader = size_t{1} << 16;

// The line "WARC/1.x" behind an empty line, from `from` on; npos when there is none.
size_t next_record(std::string_view text, size_t from) {
  for (size_t at = text.find("\nWARC/1.", from); at != npos; at = text.find("\nWARC/1.", at + 1))
    if (at > from &&
        (text[at - 1] == '\n' || (text[at - 1] == '\r' && at > from + 1 && text[at - 2] == '\n')))
      return at + 1;
  return npos;
}

size_t blanks(std::string_view text) {
  const size_t n = text.find_first_not_of("\r\n");
  return n == npos ? text.size() : n;
}

std::string_view bare(std::string_view uri) {
  if (uri.size() >= 2 && uri.front() == '<' && uri.back() == '>') return uri.substr(1, uri.size() - 2);
  return uri;
}

enum class Payload { html, text, markdown, sniff, other };
Payload payload_of(std::string_view content_type) {
  std::string type = lower_case(content_type.substr(0, content_type.find(';')));
  while (!type.empty() && type.back() == ' ') type.pop_back();
  if (type == "text/html" || type == "application/xhtml+xml") return Payload::html;
  if (type == "text/plain") return Payload::text;
  if (type == "text/markdown" || type == "text/x-markdown") return Payload::markdown;
  if (type.empty() || type == "unk" || type == "application/octet-stream" ||
      type.find('/') == std::string::npos)
    return Payload::sniff;
  return Payload::other;
}

// The licence of a "Link: <uri>; rel=license" field.
std::string link_licence(std::string_view link) {
  const size_t rel = link.find("license");
  if (rel == npos) return "";
  const size_t open = link.rfind('<', rel), close = link.find('>', open == npos ? 0 : open);
  return open == npos || close == npos || close > rel ? ""
                                                      : std::string(link.substr(open + 1, close - open - 1));
}

class WarcReader {
 public:
  WarcReader(SourceBytes& bytes, IngestSink& sink) : bytes_(bytes), sink_(sink) {}

  void run() {
    while (bytes_.next_member()) {
      lost_ = false;
      while (skip_blanks()) record();
      if (!bytes_.members().damage().empty() && !lost_) sink_.skip("damaged_member");
    }
    sink_.counts.lost_bytes += bytes_.members().lost();
  }

 private:
  bool skip_blanks() {
    for (;;) {
      const std::string_view window = bytes_.peek(1);
      if (window.empty()) return false;
      const size_t n = blanks(window);
      bytes_.drop(n);
      if (n < window.size()) return true;
    }
  }

  void record() {
    start_ = bytes_.position();
    std::string_view window = bytes_.peek(kMaxHeader + 4);
    const size_t header = window.substr(0, 5) == "WARC/" ? end_of_header(window.substr(0, kMaxHeader)) : npos;
    if (header == npos && bytes_.ended() && !bytes_.members().damage().empty()) return damaged();
    if (header == npos) return lose("bad_header");
    fields_ = HeaderFields(window.substr(window.find('\n') + 1, header - window.find('\n') - 1));
    const std::string_view said = fields_.get("content-length");
    uint64_t length = 0;
    const bool has_length =
        !said.empty() && std::from_chars(said.data(), said.data() + said.size(), length).ec == std::errc();
    bytes_.drop(header);
    const uint64_t most = sink_.options.max_record_bytes;
    if (length > most) return lose("too_large");
    window = bytes_.peek(length + 16);
    const bool enough = has_length && window.size() >= length;
    if (enough && follows(window.substr(length))) return block(window.substr(0, length), length, false);
    if (bytes_.ended() && !bytes_.members().damage().empty() && !enough) return damaged();
    mend(most);
  }

  // A record or the end of the member stands behind the block.
  bool follows(std::string_view rest) const {
    const size_t n = blanks(rest);
    return n == rest.size()
               ? bytes_.ended() || n >= 16
               : n > 0 && rest.substr(n, 5) == std::string_view("WARC/").substr(0, rest.size() - n);
  }

  // The length is a lie: the block ends where the next record begins, or with its member.
  void mend(uint64_t most) {
    for (size_t want = size_t{1} << 16;; want *= 2) {
      const std::string_view window = bytes_.peek(want);
      const size_t next = next_record(window, 0);
      if (next == npos && !bytes_.ended() && window.size() <= most) continue;
      if (next == npos && !bytes_.ended()) return lose("too_large");
      if (next == npos && !bytes_.members().damage().empty()) return damaged();
      const size_t end = next == npos ? window.size() : next;
      if (end > most + 4) return lose("too_large");
      size_t length = end;
      while (length > 0 && end - length < 4 && (window[length - 1] == '\n' || window[length - 1] == '\r'))
        --length;
      return block(window.substr(0, length), end, true);
    }
  }

  void damaged() {
    lost_ = true;
    sink_.skip("damaged_member");
    bytes_.drop(bytes_.peek(0).size());
  }

  // Counts the record and moves to where the next one begins, whatever the length said: a length that cannot
  // be trusted must not hide what follows.
  void lose(const char* why) {
    sink_.skip(why);
    lost_ = true;
    for (;;) {
      const std::string_view window = bytes_.peek(size_t{1} << 16);
      const size_t next = next_record(window, 0);
      if (next != npos) return bytes_.drop(next);
      if (bytes_.ended()) return bytes_.drop(window.size());
      bytes_.drop(window.size() - 16);  // the line may be cut by the window's end
    }
  }

  void block(std::string_view content, size_t covered, bool mended) {
    const std::string type = lower_case(fields_.get("warc-type"));
    std::string text(content);
    bytes_.drop(covered);
    bytes_.peek(16);  // moves the member's end into sight
    if (type == "warcinfo") {
      part_of_ = HeaderFields(text).get("ispartof");
      return sink_.skip("warcinfo");
    }
    if (type == "request" || type == "metadata" || type == "revisit") return sink_.skip(type);
    if (type != "response" && type != "resource" && type != "conversion") return sink_.skip("record_type");
    // wget's own log and arguments, and name look-ups, are about the crawl
    const std::string_view target = bare(fields_.get("warc-target-uri"));
    if (target.substr(0, 9) == "metadata:" || target.substr(0, 4) == "dns:") return sink_.skip("metadata");
    if (mended) repaired_.push_back("content_length");
    payload(std::move(text), type);
    repaired_.clear();
  }

  void payload(std::string text, const std::string& type) {
    std::string content_type(fields_.get("content-type"));
    HttpBody http;
    const bool has_http = text.compare(0, 5, "HTTP/") == 0 && type != "conversion";
    if (has_http) {
      http = read_http(text, sink_.options.max_record_bytes);
      if (http.skip) return sink_.skip(http.skip);
      if (http.status != 200 && http.status != 203) return sink_.skip("http_status");
      repaired_.insert(repaired_.end(), http.repaired.begin(), http.repaired.end());
      text = std::move(http.bytes);
      content_type = http.fields.get("content-type");
    } else if (lower_case(content_type).find("application/http") == 0) {
      content_type.clear();  // says HTTP, holds the bare page
    }
    Payload kind = payload_of(content_type);
    if (kind == Payload::sniff) {
      const std::string_view identified = fields_.get("warc-identified-payload-type");
      if (!identified.empty()) kind = payload_of(identified);
      if (kind == Payload::sniff) kind = looks_like_html(text) ? Payload::html : Payload::text;
    }
    if (kind == Payload::other) return sink_.skip("payload_type");
    give(std::move(text), kind, content_type, http);
  }

  void give(std::string text, Payload kind, std::string_view content_type, const HttpBody& http) {
    Decoded decoded = decode_text(text, charset_parameter(content_type), kind == Payload::html);
    if (is_binary(decoded.text)) return sink_.skip("binary");
    if (decoded.text.find_first_not_of(" \t\r\n") == std::string::npos) return sink_.skip("empty");
    if (decoded.invalid) sink_.repaired("invalid_text");
    if (decoded.unknown_charset) sink_.repaired("unknown_charset");
    for (const char* how : repaired_) sink_.repaired(how);
    Record r = sink_.record();
    const MemberReader& members = bytes_.members();
    r.offset = bytes_.packed() ? members.begin() : start_;
    r.length = bytes_.packed() ? members.end() - members.begin() : bytes_.position() - start_;
    r.kind = kind == Payload::html       ? RecordKind::html
             : kind == Payload::markdown ? RecordKind::markdown
                                         : RecordKind::text;
    r.text = std::move(decoded.text);
    r.url = bare(fields_.get("warc-target-uri"));
    r.date = fields_.get("warc-date");
    r.language = fields_.get("warc-identified-content-language");
    if (r.language.empty()) r.language = http.fields.get("content-language");
    if (const std::string licence = link_licence(http.fields.get("link")); !licence.empty())
      r.licence = licence;
    if (r.source.empty()) r.source = part_of_;
    for (std::string* s : {&r.url, &r.date, &r.language, &r.licence, &r.source}) mend_utf8(*s);
    sink_.put(std::move(r));
  }

  SourceBytes& bytes_;
  IngestSink& sink_;
  HeaderFields fields_;
  uint64_t start_ = 0;  // of the record, in what was unpacked
  bool lost_ = false;   // a record of this member was counted as lost
  std::string part_of_;
  std::vector<const char*> repaired_;
};

}  // namespace

void read_warc(SourceBytes& bytes, IngestSink& sink) {
  WarcReader(bytes, sink).run();
}

}  // namespace llmctl
