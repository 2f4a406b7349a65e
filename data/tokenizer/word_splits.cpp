// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/word_splits.h"

#include "data/text/json_fields.h"

namespace llmctl {

namespace {

// \w as Rust's regex has it (Annex 18), and Unicode punctuation with the ASCII symbols beside it.
constexpr const char* kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
constexpr const char* kPunctuation = "[!-/:-@\\[-`{-~\\p{P}]";

Json split(const Json& pattern, const std::string& behavior, bool invert = false) {
  return {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", invert}};
}

}  // namespace

Json as_splits(const std::string& type, const Json& json) {
  Json list = Json::array();
  const auto regex = [](const std::string& text) { return Json{{"Regex", text}}; };
  if (type == "Whitespace") {
    const std::string word = kWord;
    list.push_back(split(regex("[" + word + "]+|[^\\s" + word + "]+"), "Removed", true));
  } else if (type == "WhitespaceSplit") {
    list.push_back(split(regex("\\s"), "Removed"));
  } else if (type == "BertPreTokenizer") {
    list.push_back(split(regex("\\s"), "Removed"));
    list.push_back(split(regex(kPunctuation), "Isolated"));
  } else if (type == "Punctuation") {
    const bool named = json.contains("behavior");
    list.push_back(split(regex(kPunctuation), named ? string_field(json, "behavior") : "Isolated"));
  } else if (type == "CharDelimiterSplit") {
    list.push_back(split(Json{{"String", string_field(json, "delimiter")}}, "Removed"));
  } else {
    return nullptr;
  }
  return list;
}

}  // namespace llmctl
