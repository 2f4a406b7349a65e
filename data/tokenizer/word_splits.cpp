// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/word_splits.h"

#include "data/text/json_fields.h"

namespace llmctl {

namespace {

// \w as Rust's regex has it (Annex 18), and Unicode punctuation with the ASCII symbols beside it.
// Hugging Face's tables are of other versions of Unicode than PCRE2's 14 (asked about every code point):
// newer for \w, older for punctuation.
constexpr const char* kWord =
    "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}"
    "\\x{897}\\x{CF3}\\x{ECE}\\x{1C89}-\\x{1C8A}\\x{A7CB}-\\x{A7CD}\\x{A7DA}-\\x{A7DC}"
    "\\x{105C0}-\\x{105F3}\\x{10D40}-\\x{10D65}\\x{10D69}-\\x{10D6D}\\x{10D6F}-\\x{10D85}"
    "\\x{10EC2}-\\x{10EC4}\\x{10EFC}-\\x{10EFF}\\x{1123F}-\\x{11241}\\x{11380}-\\x{11389}\\x{1138B}"
    "\\x{1138E}\\x{11390}-\\x{113B5}\\x{113B7}-\\x{113C0}\\x{113C2}\\x{113C5}\\x{113C7}-\\x{113CA}"
    "\\x{113CC}-\\x{113D3}\\x{113E1}-\\x{113E2}\\x{116D0}-\\x{116E3}\\x{11BC0}-\\x{11BE0}"
    "\\x{11BF0}-\\x{11BF9}\\x{11F00}-\\x{11F10}\\x{11F12}-\\x{11F3A}\\x{11F3E}-\\x{11F42}"
    "\\x{11F50}-\\x{11F5A}\\x{1342F}\\x{13440}-\\x{13455}\\x{13460}-\\x{143FA}\\x{16100}-\\x{16139}"
    "\\x{16D40}-\\x{16D6C}\\x{16D70}-\\x{16D79}\\x{18CFF}\\x{1B132}\\x{1B155}\\x{1CCF0}-\\x{1CCF9}"
    "\\x{1DF25}-\\x{1DF2A}\\x{1E030}-\\x{1E06D}\\x{1E08F}\\x{1E4D0}-\\x{1E4F9}\\x{1E5D0}-\\x{1E5FA}"
    "\\x{2B739}\\x{2EBF0}-\\x{2EE5D}\\x{31350}-\\x{323AF}";
constexpr const char* kPunctuation =
    "(?:[\\x{166D}\\x{111C9}]|(?!["
    "\\x{61D}\\x{9FD}\\x{A76}\\x{C77}\\x{C84}\\x{1B7D}-\\x{1B7E}\\x{2E43}-\\x{2E4F}"
    "\\x{2E52}-\\x{2E5D}\\x{10EAD}\\x{10F55}-\\x{10F59}\\x{10F86}-\\x{10F89}\\x{1144B}-\\x{1144F}"
    "\\x{1145A}-\\x{1145B}\\x{1145D}\\x{11660}-\\x{1166C}\\x{116B9}\\x{1183B}\\x{11944}-\\x{11946}"
    "\\x{119E2}\\x{11A3F}-\\x{11A46}\\x{11A9A}-\\x{11A9C}\\x{11A9E}-\\x{11AA2}\\x{11C41}-\\x{11C45}"
    "\\x{11C70}-\\x{11C71}\\x{11EF7}-\\x{11EF8}\\x{11FFF}\\x{12FF1}-\\x{12FF2}\\x{16E97}-\\x{16E9A}"
    "\\x{16FE2}\\x{1E95E}-\\x{1E95F}"
    "])[!-/:-@\\[-`{-~\\p{P}])";

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
