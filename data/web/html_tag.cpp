// SPDX-License-Identifier: Apache-2.0
#include "data/web/html_tag.h"

#include <algorithm>
#include <cstring>

namespace llmctl::html {
namespace {

constexpr size_t npos = std::string_view::npos;

bool is_blank(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f';
}
char small(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

struct Slot {
  std::string_view name;
  std::string_view Tag::*value;
};
constexpr Slot kSlots[] = {
    {"class", &Tag::class_},
    {"id", &Tag::id},
    {"role", &Tag::role},
    {"itemprop", &Tag::itemprop},
    {"style", &Tag::style},
    {"href", &Tag::href},
    {"rel", &Tag::rel},
    {"type", &Tag::type},
    {"property", &Tag::property},
    {"name", &Tag::meta_name},
    {"content", &Tag::content},
    {"datetime", &Tag::datetime},
    {"lang", &Tag::lang},
    {"colspan", &Tag::colspan},
    {"http-equiv", &Tag::http_equiv},
    {"aria-hidden", &Tag::aria_hidden},
    {"alttext", &Tag::alttext},
};

void keep(Tag& tag, std::string_view name, std::string_view value) {
  ++tag.attributes;
  if (name.size() > 11 || name.size() < 2) return;
  if (same_name(name, "hidden")) tag.hidden = true;
  for (const Slot& slot : kSlots)
    if (same_name(name, slot.name)) {
      if ((tag.*slot.value).empty()) tag.*slot.value = value;  // the first of a name counts
      return;
    }
}

}  // namespace

bool same_name(std::string_view a, std::string_view name) {
  if (a.size() != name.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (small(a[i]) != name[i]) return false;
  return true;
}

size_t read_tag(std::string_view html, size_t at, Tag& tag) {
  const size_t size = html.size();
  tag = Tag{};
  ++at;
  if (html[at] == '/') {
    tag.closes = true;
    ++at;
  }
  for (; at < size && !is_blank(html[at]) && html[at] != '/' && html[at] != '>'; ++at)
    if (tag.name.size() < 32) tag.name += small(html[at]);
  while (at < size) {
    while (at < size && (is_blank(html[at]) || html[at] == '/')) ++at;
    if (at >= size) return npos;
    if (html[at] == '>') return at + 1;
    const size_t name = at++;  // a first '=' belongs to the name
    while (at < size && !is_blank(html[at]) && html[at] != '/' && html[at] != '>' && html[at] != '=') ++at;
    const std::string_view key = html.substr(name, at - name);
    while (at < size && is_blank(html[at])) ++at;
    if (at >= size) return npos;
    if (html[at] != '=') {
      keep(tag, key, {});
      continue;
    }
    ++at;
    while (at < size && is_blank(html[at])) ++at;
    if (at >= size) return npos;
    if (html[at] == '"' || html[at] == '\'') {
      const size_t end = html.find(html[at], at + 1);
      if (end == npos) return npos;
      keep(tag, key, html.substr(at + 1, end - at - 1));
      at = end + 1;
    } else {
      const size_t value = at;
      while (at < size && !is_blank(html[at]) && html[at] != '>') ++at;
      keep(tag, key, html.substr(value, at - value));
    }
  }
  return npos;
}

size_t end_of_raw(std::string_view html, size_t at, std::string_view name) {
  const auto names = [&](size_t from) {
    const size_t end = from + name.size();
    return end < html.size() && same_name(html.substr(from, name.size()), name) &&
           (is_blank(html[end]) || html[end] == '/' || html[end] == '>');
  };
  const bool script = name == "script";
  size_t comment = npos;  // where to look for the end of "<!--" from
  bool twice = false;     // inside "<!-- <script"
  for (at = html.find('<', at); at != npos; at = html.find('<', at + 1)) {
    if (comment != npos) {
      const size_t end = html.substr(0, at).find("-->", comment);
      if (end != npos) {
        comment = npos;
        twice = false;
      } else {
        comment = std::max(comment, at - std::min<size_t>(at, 2));
      }
    }
    if (html.substr(at, 2) == "</" && names(at + 2)) {
      if (!twice) return at;
      twice = false;
    } else if (script && comment != npos && names(at + 1)) {
      twice = true;
    } else if (script && comment == npos && html.substr(at, 4) == "<!--") {
      comment = at + 2;
    }
  }
  return npos;
}

}  // namespace llmctl::html
