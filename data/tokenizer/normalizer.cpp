// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/normalizer.h"

#include <memory>

#include "data/text/base64.h"
#include "data/text/json_fields.h"
#include "data/text/unicode.h"
#include "data/tokenizer/normalizer_steps.h"
#include "data/tokenizer/sentencepiece_text.h"

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

namespace {

using Step = std::function<AlignedText(const AlignedText&)>;

Step replace_step(const Json& json) {
  const Json& pattern = field(json, "pattern");
  check(pattern.is_object(), Code::input, "[tokenizer] Replace pattern is not an object");
  const std::string to = string_field(json, "content");
  if (pattern.contains("Regex")) {
    const SplitRegex regex(string_field(pattern, "Regex"));
    check(!regex.matches_empty(), Code::unsupported,
          "[tokenizer] normalizer Replace by a pattern that matches nothing at all is not offered");
    return [regex, to](const AlignedText& text) { return replace_regex(text, regex, to); };
  }
  const std::string from = string_field(pattern, "String");
  check(!from.empty(), Code::input, "[tokenizer] normalizer Replace has an empty pattern");
  return [from, to](const AlignedText& text) { return replace_literal(text, from, to); };
}

Step bert_step(const Json& json) {
  BertOptions options;
  options.clean_text = bool_field(json, "clean_text", true);
  options.handle_chinese_chars = bool_field(json, "handle_chinese_chars", true);
  options.lowercase = bool_field(json, "lowercase", true);
  options.strip_accents = bool_field(json, "strip_accents", options.lowercase);
  return [options](const AlignedText& text) { return bert(text, options); };
}

Step precompiled_step(const Json& json) {
  const auto bytes = from_base64(string_field(json, "precompiled_charsmap"));
  check(bytes.has_value(), Code::input, "[tokenizer] precompiled_charsmap is no base 64");
  const auto map = std::make_shared<const Charsmap>(*bytes);
  return [map](const AlignedText& text) { return charsmap_by_graphemes(text, *map); };
}

Step form_step(UnicodeForm form) {
  return [form](const AlignedText& text) { return normalize(form, text, UnicodeTables::v9); };
}

Step step_of(const std::string& type, const Json& json) {
  if (type == "NFC") return form_step(UnicodeForm::nfc);
  if (type == "NFD") return form_step(UnicodeForm::nfd);
  if (type == "NFKC") return form_step(UnicodeForm::nfkc);
  if (type == "NFKD") return form_step(UnicodeForm::nfkd);
  if (type == "Replace") return replace_step(json);
  if (type == "Lowercase") return lowercase;
  if (type == "StripAccents") return strip_accents;
  if (type == "ByteLevel") return spell_byte_level;
  if (type == "Nmt") return nmt;
  if (type == "BertNormalizer") return bert_step(json);
  if (type == "Precompiled") return precompiled_step(json);
  if (type == "Prepend") {
    const std::string what = string_field(json, "prepend");
    return [what](const AlignedText& text) { return prepend(text, what); };
  }
  if (type == "Strip") {
    const bool left = bool_field(json, "strip_left", true), right = bool_field(json, "strip_right", true);
    return [left, right](const AlignedText& text) { return strip_spaces(text, left, right); };
  }
  throw Error(Code::unsupported, "[tokenizer] normalizer '" + type + "' is not offered");
}

}  // namespace

Normalizer::Normalizer(const Json& json) {
  add(json, 0);
}

Normalizer::Normalizer(const SentencePieceRules& rules) {
  steps_.push_back([rules](const AlignedText& text) { return sentencepiece_text(text, rules); });
}

void Normalizer::add(const Json& json, int depth) {
  if (json.is_null()) return;
  check(depth < 8, Code::input, "[tokenizer] normalizers nest deeper than 8");
  const std::string type = type_field(json);
  if (type != "Sequence") {
    steps_.push_back(step_of(type, json));
    return;
  }
  const Json& list = field(json, "normalizers");
  check(list.is_array(), Code::input, "[tokenizer] 'normalizers' is not a list");
  for (const Json& item : list) add(item, depth + 1);
}

std::string Normalizer::apply(std::string_view text) const {
  if (steps_.empty()) return std::string(text);
  return apply(AlignedText(text, false)).text;
}

AlignedText Normalizer::apply(AlignedText text) const {
  for (const Step& step : steps_) text = step(text);
  return text;
}

}  // namespace llmctl
