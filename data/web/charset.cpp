// SPDX-License-Identifier: Apache-2.0
#include "data/web/charset.h"

#include <iconv.h>

#include <algorithm>
#include <cerrno>

#include "data/text/utf8.h"

namespace llmctl {
namespace {

constexpr size_t npos = std::string_view::npos;

std::string lowered(std::string_view s) {
  std::string out(s.substr(0, 4096));
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}

// 0x80..0x9F of windows-1252 (WHATWG Encoding); the five holes map to themselves.
constexpr char32_t kWindows[32] = {0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                   0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8D,   0x017D, 0x8F,
                                   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                   0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178};

std::string from_windows_1252(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 8);
  for (const char byte : bytes) {
    const auto b = static_cast<unsigned char>(byte);
    append_utf8(out, b >= 0x80 && b < 0xA0 ? kWindows[b - 0x80] : b);
  }
  return out;
}

// One name for the spellings that are met most (WHATWG Encoding 4.2); others go to iconv as they are.
std::string canonical(std::string_view label) {
  std::string n = lowered(label);
  n.erase(std::remove_if(n.begin(), n.end(), [](char c) { return c == '"' || c == '\'' || c <= ' '; }),
          n.end());
  if (n == "utf8" || n == "unicode-1-1-utf-8") return "utf-8";
  if (n == "latin1" || n == "iso-8859-1" || n == "iso8859-1" || n == "ascii" || n == "us-ascii" ||
      n == "cp1252")
    return "windows-1252";
  if (n == "gb2312" || n == "gbk" || n == "x-gbk") return "gb18030";
  if (n == "shift_jis" || n == "x-sjis" || n == "shift-jis") return "cp932";
  if (n == "ks_c_5601-1987" || n == "euc-kr") return "cp949";
  if (n == "big5") return "big5-hkscs";
  if (n == "iso-8859-9" || n == "latin5") return "windows-1254";
  if (n == "x-user-defined") return "windows-1252";
  return n;
}

bool by_iconv(std::string_view bytes, const std::string& charset, Decoded& out) {
  if (charset.empty() || charset.size() > 40 || charset.find_first_of("/,:") != std::string::npos)
    return false;
  const iconv_t converter = iconv_open("UTF-8", charset.c_str());
  if (converter == reinterpret_cast<iconv_t>(-1)) return false;
  std::string piece(size_t{1} << 16, '\0');
  char* in = const_cast<char*>(bytes.data());
  size_t left = bytes.size();
  while (true) {
    char* to = piece.data();
    size_t room = piece.size();
    const size_t rc = iconv(converter, &in, &left, &to, &room);
    out.text.append(piece.data(), piece.size() - room);
    if (rc != static_cast<size_t>(-1)) break;
    if (errno == E2BIG) continue;
    out.invalid = true;  // a sequence that means nothing, or one cut at the end
    append_utf8(out.text, 0xFFFD);
    if (errno == EINVAL || left <= 1) break;
    ++in;
    --left;
  }
  iconv_close(converter);
  return true;
}

std::string meta_charset(std::string_view bytes) {
  const std::string head = lowered(bytes.substr(0, 4096));
  for (size_t at = head.find("<meta"); at != npos; at = head.find("<meta", at + 5)) {
    const size_t end = std::min(head.find('>', at), head.size());
    const std::string charset = charset_parameter(std::string_view(head).substr(at, end - at));
    // A page whose <meta> could be read is not UTF-16, whatever it says (WHATWG HTML 13.2.3.2).
    if (!charset.empty()) return charset.find("utf-16") == 0 ? "utf-8" : charset;
  }
  return "";
}

}  // namespace

std::string charset_parameter(std::string_view content_type) {
  const std::string s = lowered(content_type);
  size_t at = s.find("charset");
  if (at == npos) return "";
  at += 7;
  while (at < s.size() && s[at] == ' ') ++at;
  if (at >= s.size() || s[at] != '=') return "";
  ++at;
  while (at < s.size() && (s[at] == ' ' || s[at] == '"' || s[at] == '\'')) ++at;
  const size_t end = s.find_first_of(" \"';/>\r\n", at);
  return s.substr(at, end == npos ? npos : end - at);
}

bool mend_utf8(std::string& text) {
  if (is_utf8(text)) return false;
  std::string out;
  out.reserve(text.size() + 64);
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (c.kind == CodePoint::Kind::valid)
      out.append(text, at, c.bytes);
    else
      append_utf8(out, 0xFFFD);
    at += c.bytes;
  }
  text = std::move(out);
  return true;
}

Decoded decode_text(std::string_view bytes, std::string_view declared, bool html) {
  Decoded out;
  std::string charset = canonical(declared);
  if (bytes.substr(0, 3) == "\xEF\xBB\xBF") {
    charset = "utf-8";
    bytes.remove_prefix(3);
  } else if (bytes.substr(0, 2) == "\xFF\xFE" || bytes.substr(0, 2) == "\xFE\xFF") {
    charset = bytes[0] == '\xFF' ? "utf-16le" : "utf-16be";
    bytes.remove_prefix(2);
  } else if (charset.empty() && html) {
    charset = canonical(meta_charset(bytes));
  }
  if (!charset.empty() && charset != "utf-8" && charset != "windows-1252") {
    if (by_iconv(bytes, charset, out)) {
      out.invalid |= mend_utf8(out.text);
      return out;
    }
    out.unknown_charset = true;
    charset.clear();
  }
  if (charset == "windows-1252" || (charset.empty() && !is_utf8(bytes))) {
    out.text = from_windows_1252(bytes);
  } else {
    out.text = bytes;
    out.invalid = mend_utf8(out.text);
  }
  return out;
}

}  // namespace llmctl
