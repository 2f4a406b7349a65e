// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <ctime>
#include <random>

#include "serve/http.h"

namespace llmctl::serve {
namespace {

bool is_token_char(unsigned char c) {  // RFC 9110 5.6.2
  if (c >= '0' && c <= '9') return true;
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return true;
  return std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string date_now() {  // IMF-fixdate
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[64];
  std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc);
  return text;
}

}  // namespace

std::string_view HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (key == name) return value;
  return {};
}

const char* reason_of(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 411:
      return "Length Required";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Status";
  }
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::optional<std::string> percent_decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

std::string response_head(const HttpResponse& r, const std::string& request_id, int64_t length,
                          bool keep_alive, bool can_chunk) {
  std::string out = "HTTP/1.1 " + std::to_string(r.status) + ' ' + reason_of(r.status) + "\r\n";
  const auto add = [&out](std::string_view name, std::string_view value) {
    ((out += name) += ": ") += value;
    out += "\r\n";
  };
  add("date", date_now());
  add("server", "llmctl");
  add("x-request-id", request_id);
  if (r.status != 204) add("content-type", r.content_type);
  for (const auto& [name, value] : r.headers) add(name, value);
  if (length >= 0) {
    if (r.status != 204) add("content-length", std::to_string(length));
  } else if (can_chunk) {
    add("transfer-encoding", "chunked");
  }
  add("connection", keep_alive ? "keep-alive" : "close");
  return out + "\r\n";
}

std::string chunk_of(std::string_view data) {
  char size[32];
  std::snprintf(size, sizeof size, "%zx\r\n", data.size());
  std::string out = size;
  out += data;
  return out + "\r\n";
}

bool is_malformed_start(std::string_view seen) {
  while (seen.size() >= 2 && seen.substr(0, 2) == "\r\n") seen.remove_prefix(2);
  const size_t newline = seen.find('\n');
  const bool complete = newline != std::string_view::npos;
  if (complete && (newline == 0 || seen[newline - 1] != '\r')) return true;
  std::string_view line = complete ? seen.substr(0, newline - 1) : seen;
  if (!complete && !line.empty() && line.back() == '\r') line.remove_suffix(1);
  const size_t space = line.find(' ');
  const std::string_view method = line.substr(0, space);
  if (method.size() > 32) return true;
  for (const char c : method)
    if (!is_token_char(static_cast<unsigned char>(c))) return true;
  for (const char c : line)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return true;
  if (!complete) return false;
  if (space == std::string_view::npos || method.empty()) return true;
  const std::string_view rest = line.substr(space + 1);
  const size_t second = rest.find(' ');
  return second == std::string_view::npos || second == 0 || rest.substr(second + 1).substr(0, 5) != "HTTP/";
}

std::string request_id_from(std::string_view client_id) {
  const bool usable = !client_id.empty() && client_id.size() <= 128 &&
                      std::all_of(client_id.begin(), client_id.end(), [](char c) {
                        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                               c == '.' || c == '_' || c == '-';
                      });
  if (usable) return std::string(client_id);
  // A random start per process and a counter: unique without a lock.
  static const uint64_t start = (uint64_t{std::random_device{}()} << 32) | std::random_device{}();
  static std::atomic<uint64_t> next{0};
  char text[64];
  std::snprintf(text, sizeof text, "req_%016llx%08llx", static_cast<unsigned long long>(start),
                static_cast<unsigned long long>(next.fetch_add(1)));
  return text;
}

}  // namespace llmctl::serve
