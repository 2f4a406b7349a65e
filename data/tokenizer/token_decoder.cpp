// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/token_decoder.h"

#include <utility>

#include "data/text/json_fields.h"
#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/split_regex.h"

namespace llmctl {

namespace {

// "<0x41>" to "A"; anything else stays.
std::string byte_of(std::string token, bool) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return token;
  const int high = digit(token[3]), low = digit(token[4]);
  return high < 0 || low < 0 ? token : std::string(1, static_cast<char>(high * 16 + low));
}

std::string clean_up(std::string text) {
  static constexpr std::pair<const char*, const char*> kRules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) text = replace_all(text, from, to);
  return text;
}

std::string regex_replaced(const SplitRegex& regex, const std::string& token, const std::string& to) {
  std::vector<Range> found;
  regex.find(token, found);
  std::string out;
  size_t at = 0;
  for (const Range& r : found) {
    out.append(token, at, r.begin - at).append(to);
    at = r.end;
  }
  return out.append(token, at);
}

std::function<std::string(std::string, bool)> replace_step(const Json& json) {
  const Json& pattern = field(json, "pattern");
  const std::string to = string_field(json, "content");
  if (pattern.is_object() && pattern.contains("Regex")) {
    const SplitRegex regex(string_field(pattern, "Regex"));
    check(!regex.matches_empty(), Code::unsupported,
          "[tokenizer] decoder Replace by a pattern that matches nothing at all is not offered");
    return [regex, to](const std::string& token, bool) { return regex_replaced(regex, token, to); };
  }
  const std::string from = string_field(pattern, "String");
  check(!from.empty(), Code::input, "[tokenizer] decoder Replace has an empty pattern");
  return [from, to](const std::string& token, bool) { return replace_all(token, from, to); };
}

}  // namespace

void strip_start(const TokenDecoder& decoder, int& left, std::string& text) {
  size_t cut = 0;
  while (left > 0 && !decoder.strip.empty() && text.compare(cut, decoder.strip.size(), decoder.strip) == 0) {
    cut += decoder.strip.size();
    --left;
  }
  if (cut < text.size()) left = 0;
  text.erase(0, cut);
}

TokenDecoder::TokenDecoder(const Json& json) {
  if (json.is_null()) {
    first_differs_ = true;
    steps_.push_back([](std::string token, bool first) { return first ? token : " " + token; });
    return;
  }
  if (type_field(json) != "Sequence") {
    add(json);
    return;
  }
  const Json& list = field(json, "decoders");
  check(list.is_array(), Code::input, "[tokenizer] 'decoders' is not a list");
  for (const Json& step : list) add(step);
}

void TokenDecoder::add(const Json& json) {
  const std::string type = type_field(json);
  check(!fused_ || type == "Fuse" || type == "Strip", Code::unsupported, "[tokenizer] decoder '", type,
        "' after Fuse is not offered");
  check(last_dropped.empty(), Code::unsupported, "[tokenizer] decoder '", type,
        "' after BPEDecoder is not offered");
  if (type == "ByteLevel") {
    byte_level_ = true;
    steps_.push_back([](std::string token, bool) { return unspell_bytes(token).value_or(token); });
  } else if (type == "Replace") {
    steps_.push_back(replace_step(json));
  } else if (type == "ByteFallback") {
    steps_.push_back(byte_of);
  } else if (type == "Fuse") {
    fused_ = true;
  } else if (type == "Strip") {
    add_strip(json);
  } else if (type == "Metaspace") {
    add_metaspace(json);
  } else if (type == "WordPiece") {
    add_word_piece(json);
  } else if (type == "BPEDecoder") {
    const std::string suffix = string_field(json, "suffix");
    check(!suffix.empty(), Code::input, "[tokenizer] BPEDecoder has an empty suffix");
    steps_.push_back([suffix](const std::string& token, bool) { return replace_all(token, suffix, " "); });
    last_dropped = " ";
  } else {
    throw Error(Code::unsupported, "[tokenizer] decoder '" + type + "' is not offered");
  }
}

void TokenDecoder::add_strip(const Json& json) {
  const std::string what = string_field(json, "content");
  const auto start = static_cast<int>(int_field(json, "start", 0, 1 << 20));
  const auto stop = static_cast<int>(int_field(json, "stop", 0, 1 << 20));
  check(!what.empty(), Code::input, "[tokenizer] decoder Strip has no content");
  if (fused_) {
    check(strip.empty(), Code::unsupported, "[tokenizer] two Strip decoders after Fuse are not offered");
    check(stop == 0, Code::unsupported, "[tokenizer] decoder Strip at the end of a text is not offered");
    strip = what;
    strip_start = start;
    return;
  }
  steps_.push_back([what, start, stop](std::string token, bool) {
    for (int i = 0; i < start && token.starts_with(what); ++i) token.erase(0, what.size());
    for (int i = 0; i < stop && token.ends_with(what); ++i) token.resize(token.size() - what.size());
    return token;
  });
}

void TokenDecoder::add_metaspace(const Json& json) {
  const std::string mark = string_field(json, "replacement");
  check(!mark.empty(), Code::input, "[tokenizer] Metaspace replacement is empty");
  const bool prefix = json.contains("prepend_scheme") ? string_field(json, "prepend_scheme") != "never"
                                                      : bool_field(json, "add_prefix_space", true);
  steps_.push_back([mark](const std::string& token, bool) { return replace_all(token, mark, " "); });
  if (prefix) {
    strip = " ";
    strip_start = 1;
  }
  fused_ = true;
}

void TokenDecoder::add_word_piece(const Json& json) {
  const std::string mark = string_field(json, "prefix");
  const bool clean = bool_field(json, "cleanup", true);
  first_differs_ = true;
  steps_.push_back([mark, clean](std::string token, bool first) {
    if (!first) token = token.starts_with(mark) ? token.substr(mark.size()) : " " + token;
    return clean ? clean_up(std::move(token)) : token;
  });
}

std::string TokenDecoder::bytes_of(const std::string& spelling, bool first) const {
  std::string bytes = spelling;
  for (const Step& step : steps_) bytes = step(std::move(bytes), first);
  return bytes;
}

}  // namespace llmctl
