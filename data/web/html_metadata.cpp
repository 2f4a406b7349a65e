// SPDX-License-Identifier: Apache-2.0
#include "data/web/html_metadata.h"

#include <algorithm>
#include <cstring>

#include "core/base/json.h"
#include "data/text/utf8.h"

namespace llmctl::html {
namespace {

constexpr size_t npos = std::string_view::npos;

struct Reference {
  std::string_view name;
  char32_t value;
};
constexpr Reference kReferences[] = {
    {"amp", '&'},      {"lt", '<'},       {"gt", '>'},        {"quot", '"'},     {"apos", '\''},
    {"nbsp", ' '},     {"ndash", 0x2013}, {"mdash", 0x2014},  {"lsquo", 0x2018}, {"rsquo", 0x2019},
    {"ldquo", 0x201C}, {"rdquo", 0x201D}, {"hellip", 0x2026}, {"bull", 0x2022},  {"middot", 0xB7},
    {"laquo", 0xAB},   {"raquo", 0xBB},   {"copy", 0xA9},     {"reg", 0xAE},     {"trade", 0x2122},
    {"eacute", 0xE9},  {"egrave", 0xE8},  {"agrave", 0xE0},   {"auml", 0xE4},    {"ouml", 0xF6},
    {"uuml", 0xFC},    {"szlig", 0xDF},   {"ntilde", 0xF1},   {"ccedil", 0xE7},  {"times", 0xD7},
};

// The code point of "#8217", "#x2019" or a name; 0 when unknown.
char32_t value_of(std::string_view name) {
  if (name.size() < 2 || name[0] != '#') {
    for (const Reference& r : kReferences)
      if (r.name == name) return r.value;
    return 0;
  }
  const bool hex = name[1] == 'x' || name[1] == 'X';
  uint32_t value = 0;
  for (const char c : name.substr(hex ? 2 : 1)) {
    const int digit = c >= '0' && c <= '9'          ? c - '0'
                      : hex && c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : hex && c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                    : -1;
    if (digit < 0 || value > 0x10FFFF) return 0;
    value = value * (hex ? 16 : 10) + static_cast<uint32_t>(digit);
  }
  const bool scalar = value > 0 && value <= 0x10FFFF && !(value >= 0xD800 && value < 0xE000);
  return scalar ? value : 0;
}

// Strings of schema.org objects, at any depth: parse_json refuses more than 256.
void walk(const Json& json, const std::function<void(const std::string&, const std::string&)>& found) {
  if (json.is_object()) {
    for (const auto& [key, value] : json.items()) {
      if (value.is_string()) found(key, value.get_ref<const std::string&>());
      walk(value, found);
    }
  } else if (json.is_array()) {
    for (const Json& value : json) walk(value, found);
  }
}

std::string lowered(std::string_view s) {
  std::string out(s.substr(0, 64));
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}

}  // namespace

std::string plain(std::string_view html) {
  std::string out;
  bool blank = true;
  const auto put = [&](char32_t c) {
    const bool b = is_white_space(c);
    if (b && blank) return;
    append_utf8(out, b ? U' ' : c);
    blank = b;
  };
  for (size_t at = 0; at < html.size();) {
    if (html[at] == '&') {
      const size_t end = html.substr(0, std::min(html.size(), at + 12)).find(';', at);
      const char32_t value = end == npos ? 0 : value_of(html.substr(at + 1, end - at - 1));
      if (value) {
        put(value);
        at = end + 1;
        continue;
      }
    }
    const CodePoint c = code_point_at(html, at);
    put(c.kind == CodePoint::Kind::valid ? c.value : 0xFFFD);
    at += c.bytes;
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

void Metadata::Field::offer(int r, std::string_view v) {
  if (r >= rank || v.empty()) return;
  std::string text = plain(v);
  if (text.empty()) return;
  rank = r;
  value = std::move(text);
}

void Metadata::see(const Tag& tag) {
  if (tag.name == "meta") return meta(tag);
  if (tag.name == "html") language_.offer(0, tag.lang);
  if ((tag.name == "a" || tag.name == "link") && !tag.rel.empty()) {
    const std::string rel = lowered(tag.rel);
    if (rel == "license" || rel.find("license ") == 0 || rel.find(" license") != npos)
      licence_.offer(0, tag.href);
  }
  if (tag.name == "a" && tag.href.find("creativecommons.org/licenses/") != npos) licence_.offer(3, tag.href);
  if (tag.name == "time") date_.offer(tag.itemprop == "datePublished" ? 2 : 4, tag.datetime);
}

void Metadata::meta(const Tag& tag) {
  const std::string name = lowered(tag.property.empty() ? tag.meta_name : tag.property);
  if (name == "og:title") og_title_.offer(0, tag.content);
  if (name == "article:published_time") date_.offer(0, tag.content);
  if (tag.itemprop == "datePublished") date_.offer(2, tag.content);
  if (name == "date" || name == "pubdate" || name == "dc.date" || name == "dc.date.issued" ||
      name == "dcterms.date" || name == "publish-date" || name == "article.published")
    date_.offer(3, tag.content);
  if (name == "dc.rights" || name == "dcterms.license" || name == "license") licence_.offer(2, tag.content);
  if (name == "og:locale") language_.offer(2, tag.content);
  if (lowered(tag.http_equiv) == "content-language") language_.offer(1, tag.content);
}

void Metadata::title(std::string_view content) {
  title_.offer(0, content);
}

void Metadata::script(std::string_view type, std::string_view content) {
  constexpr size_t kLargest = size_t{1} << 20;
  if (lowered(type).find("ld+json") == npos || content.size() > kLargest) return;
  const auto has = [&](const char* key) { return content.find(key) != npos; };
  if (!has("\"articleBody\"") && !has("\"datePublished\"") && !has("\"license\"")) return;
  Json json;
  try {
    json = parse_json(content, "JSON-LD");
  } catch (const Error&) {
    return;  // a hint that cannot be read is no hint
  }
  walk(json, [&](const std::string& key, const std::string& value) {
    if (key == "datePublished") date_.offer(1, value);
    if (key == "license") licence_.offer(1, value);
    if (key == "articleBody" && value.size() > body_.value.size()) {
      body_.rank = 100;
      body_.offer(0, value);
    }
  });
}

void Metadata::finish(Scan& scan) {
  scan.title = !title_.value.empty() ? title_.value : og_title_.value;
  scan.og_title = og_title_.value;
  scan.language = language_.value;
  scan.date = date_.value;
  scan.licence = licence_.value;
  scan.article_body = body_.value;
}

}  // namespace llmctl::html
