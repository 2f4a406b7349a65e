// SPDX-License-Identifier: Apache-2.0
#include "data/web/http.h"

#include <algorithm>
#include <charconv>

#include "core/base/members.h"

namespace llmctl {
namespace {

constexpr size_t npos = std::string_view::npos;

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && static_cast<unsigned char>(s.front()) <= ' ') s.remove_prefix(1);
  while (!s.empty() && static_cast<unsigned char>(s.back()) <= ' ') s.remove_suffix(1);
  return s;
}

// RFC 9112 7.1. False when the first size is none, so that the body was not chunked at all.
bool join_chunks(std::string_view body, std::string& out, bool& whole) {
  whole = false;
  bool any = false;
  for (size_t at = 0; at < body.size();) {
    const size_t line = body.find('\n', at);
    std::string_view size_text =
        trimmed(body.substr(at, std::min<size_t>(line == npos ? npos : line - at, 256)));
    size_text = trimmed(size_text.substr(0, size_text.find(';')));
    uint64_t size = 0;
    const auto [end, error] =
        std::from_chars(size_text.data(), size_text.data() + size_text.size(), size, 16);
    if (line == npos || size_text.empty() || error != std::errc() ||
        end != size_text.data() + size_text.size())
      return any;
    any = true;
    at = line + 1;
    if (size == 0) return whole = true;
    const uint64_t have = std::min<uint64_t>(size, body.size() - at);
    out.append(body.substr(at, have));
    if (have < size) return true;
    at += have;
    if (body.substr(at, 2) == "\r\n")
      at += 2;
    else if (body.substr(at, 1) == "\n")
      at += 1;
    else
      return true;
  }
  return any;
}

// The body is packed or it only says so.
void unpack(HttpBody& http, std::string_view encoding, uint64_t max_bytes) {
  const bool known = encoding == "gzip" || encoding == "x-gzip" || encoding == "deflate";
  const bool text = http.bytes.find_first_not_of(" \t\r\n") != npos && trimmed(http.bytes).front() == '<';
  if (text) {
    http.repaired.push_back("not_packed");
    return;
  }
  if (!known) {
    http.skip = "content_encoding";
    return;
  }
  std::string plain;
  const Unpacked state = inflate_bytes(http.bytes, max_bytes, plain);
  if (state == Unpacked::too_large) {
    http.skip = "too_large";
  } else if (state == Unpacked::damaged && plain.empty()) {
    http.repaired.push_back("not_packed");
    return;
  } else if (state != Unpacked::whole) {
    http.repaired.push_back("packed_body");
  }
  http.bytes = std::move(plain);
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}

HeaderFields::HeaderFields(std::string_view lines) {
  for (size_t at = 0; at < lines.size();) {
    const size_t end = std::min(lines.find('\n', at), lines.size());
    const std::string_view line = lines.substr(at, end - at);
    at = end + 1;
    if (!line.empty() && (line[0] == ' ' || line[0] == '\t') && !fields_.empty()) {
      fields_.back().second += ' ';
      fields_.back().second += trimmed(line);
      continue;
    }
    const size_t colon = line.find(':');
    if (colon == npos || colon == 0) continue;
    fields_.emplace_back(lower_case(trimmed(line.substr(0, colon))), trimmed(line.substr(colon + 1)));
  }
}

std::string_view HeaderFields::get(std::string_view name) const {
  for (const auto& [key, value] : fields_)
    if (key == name) return value;
  return {};
}

size_t end_of_header(std::string_view block) {
  for (size_t at = block.find('\n'); at != npos; at = block.find('\n', at + 1)) {
    if (block.substr(at + 1, 2) == "\r\n") return at + 3;
    if (block.substr(at + 1, 1) == "\n") return at + 2;
  }
  return npos;
}

HttpBody read_http(std::string_view block, uint64_t max_bytes) {
  HttpBody http;
  const size_t end = end_of_header(block);
  const std::string_view head = block.substr(0, end);
  const size_t space = head.find(' ');
  if (space != npos) {
    const std::string_view code = head.substr(space + 1, 3);
    std::from_chars(code.data(), code.data() + code.size(), http.status);
  }
  const size_t line = head.find('\n');
  http.fields = HeaderFields(line == npos ? std::string_view() : head.substr(line + 1));
  const std::string_view body = end == npos ? std::string_view() : block.substr(end);
  if (lower_case(http.fields.get("transfer-encoding")).find("chunked") != npos) {
    bool whole = false;
    if (!join_chunks(body, http.bytes, whole)) {
      http.bytes = body;
      http.repaired.push_back("not_chunked");
    } else if (!whole) {
      http.repaired.push_back("chunk_size");
    }
  } else {
    http.bytes = body;
  }
  const std::string encoding = lower_case(http.fields.get("content-encoding"));
  if (!encoding.empty() && encoding != "identity" && !http.bytes.empty()) unpack(http, encoding, max_bytes);
  return http;
}

}  // namespace llmctl
