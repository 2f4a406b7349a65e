// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/normalizer.h"

#include "data/text/json_fields.h"
#include "data/text/unicode_nfc.h"

namespace llmctl {

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  size_t at = 0;
  for (size_t hit; (hit = text.find(from, at)) != std::string_view::npos; at = hit + from.size()) {
    out.append(text.substr(at, hit - at));
    out.append(to);
  }
  out.append(text.substr(at));
  return out;
}

Normalizer::Normalizer(const Json& json) {
  add(json, 0);
}

void Normalizer::add(const Json& json, int depth) {
  if (json.is_null()) return;
  check(depth < 8, Code::input, "[tokenizer] normalizers nest deeper than 8");
  const std::string type = type_field(json);
  if (type == "Sequence") {
    const Json& list = field(json, "normalizers");
    check(list.is_array(), Code::input, "[tokenizer] 'normalizers' is not a list");
    for (const Json& item : list) add(item, depth + 1);
  } else if (type == "Prepend") {
    steps_.push_back({Step::Kind::prepend, "", string_field(json, "prepend")});
  } else if (type == "Replace") {
    const Json& pattern = field(json, "pattern");
    check(pattern.is_object(), Code::input, "[tokenizer] Replace pattern is not an object");
    check(pattern.contains("String"), Code::unsupported,
          "[tokenizer] normalizer Replace by a regular expression is not offered");
    const std::string from = string_field(pattern, "String");
    check(!from.empty(), Code::input, "[tokenizer] normalizer Replace has an empty pattern");
    steps_.push_back({Step::Kind::replace, from, string_field(json, "content")});
  } else if (type == "NFC") {
    steps_.push_back({Step::Kind::nfc, "", ""});
  } else {
    throw Error(Code::unsupported, "[tokenizer] normalizer '" + type + "' is not offered");
  }
}

std::string Normalizer::apply(std::string_view text) const {
  std::string now(text);
  for (const Step& step : steps_) {
    if (step.kind == Step::Kind::nfc)
      now = to_nfc(now);
    else if (step.kind == Step::Kind::replace)
      now = replace_all(now, step.from, step.to);
    else if (!now.empty())
      now.insert(0, step.to);
  }
  return now;
}

}  // namespace llmctl
