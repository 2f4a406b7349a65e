// SPDX-License-Identifier: Apache-2.0
#include "data/web/html_tags.h"

#include <algorithm>
#include <iterator>

namespace llmctl::html {
namespace {

using enum TagUse;

constexpr TagRule kRules[] = {
    // sorted
    {"a", keep},           {"abbr", mute},       {"acronym", mute},
    {"address", keep},     {"applet", drop},     {"area", drop_void},
    {"article", keep},     {"aside", keep},      {"audio", drop},
    {"b", mute},           {"base", drop_void},  {"basefont", drop_void},
    {"bdi", mute},         {"bdo", mute},        {"bgsound", drop_void},
    {"big", mute},         {"blockquote", keep}, {"body", keep},
    {"br", keep_void},     {"button", drop},     {"canvas", drop},
    {"caption", keep},     {"center", keep},     {"cite", mute},
    {"code", keep},        {"col", drop_void},   {"colgroup", mute},
    {"data", mute},        {"datalist", drop},   {"dd", keep},
    {"del", drop},         {"details", keep},    {"dfn", mute},
    {"dialog", drop},      {"dir", keep},        {"div", keep},
    {"dl", keep},          {"dt", keep},         {"em", mute},
    {"embed", drop_void},  {"fieldset", keep},   {"figcaption", keep},
    {"figure", keep},      {"font", mute},       {"footer", keep},
    {"form", keep},        {"frame", drop_void}, {"frameset", mute},
    {"h1", keep},          {"h2", keep},         {"h3", keep},
    {"h4", keep},          {"h5", keep},         {"h6", keep},
    {"head", mute},        {"header", keep},     {"hgroup", keep},
    {"hr", keep_void},     {"html", mute},       {"i", mute},
    {"iframe", raw},       {"image", drop_void}, {"img", drop_void},
    {"input", drop_void},  {"ins", mute},        {"kbd", mute},
    {"keygen", drop_void}, {"label", mute},      {"legend", keep},
    {"li", keep},          {"link", drop_void},  {"listing", keep},
    {"main", keep},        {"map", mute},        {"mark", mute},
    {"marquee", mute},     {"math", mute},       {"menu", keep},
    {"meta", drop_void},   {"meter", drop},      {"nav", keep},
    {"nobr", mute},        {"noembed", raw},     {"noframes", raw},
    {"noscript", drop},    {"object", mute},     {"ol", keep},
    {"optgroup", mute},    {"option", mute},     {"output", mute},
    {"p", keep},           {"param", drop_void}, {"picture", mute},
    {"pre", keep},         {"progress", drop},   {"q", mute},
    {"rb", mute},          {"rp", drop},         {"rt", drop},
    {"rtc", drop},         {"ruby", mute},       {"s", mute},
    {"samp", mute},        {"script", raw},      {"section", keep},
    {"select", drop},      {"small", mute},      {"source", drop_void},
    {"span", mark},        {"strike", mute},     {"strong", mute},
    {"style", raw},        {"sub", mute},        {"summary", keep},
    {"sup", mark},         {"svg", drop},        {"table", keep},
    {"tbody", keep},       {"td", keep},         {"template", drop},
    {"textarea", raw},     {"tfoot", keep},      {"th", keep},
    {"thead", keep},       {"time", mute},       {"title", title},
    {"tr", keep},          {"track", drop_void}, {"tt", mute},
    {"u", mute},           {"ul", keep},         {"var", mute},
    {"video", drop},       {"wbr", drop_void},   {"xmp", raw},
};

}  // namespace

TagRule rule_of(std::string_view name) {
  const auto* end = std::end(kRules);
  const auto* it =
      std::lower_bound(kRules, end, name, [](const TagRule& r, std::string_view v) { return r.name < v; });
  return it != end && it->name == name ? *it : TagRule{"span", mark};
}

}  // namespace llmctl::html
