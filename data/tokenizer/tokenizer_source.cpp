// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/tokenizer_source.h"

namespace llmctl {

RankedMerges merges_of(const std::vector<std::vector<std::string>>& results, const StringIds& tokens,
                       bool whole_points,
                       const std::function<std::string(std::string_view)>& spell) {
  RankedMerges out;
  for (const std::vector<std::string>& group : results) {
    int64_t count = 0;
    for (const std::string& token : group)
      for (size_t cut = 1; cut < token.size(); ++cut) {
        if (whole_points && (static_cast<uint8_t>(token[cut]) & 0xC0) == 0x80) continue;
        const std::string_view left = std::string_view(token).substr(0, cut);
        const std::string_view right = std::string_view(token).substr(cut);
        const auto left_id = tokens.find(left);
        const auto right_id = left_id ? tokens.find(right) : std::nullopt;
        if (!right_id) continue;
        out.ids.push_back({*left_id, *right_id, tokens.find(token).value()});
        Json::array_t pair;  // an initializer list would copy both
        pair.reserve(2);
        pair.emplace_back(spell(left));
        pair.emplace_back(spell(right));
        out.merges.emplace_back(std::move(pair));
        ++count;
      }
    if (count > 0) out.per_rank.push_back(static_cast<uint64_t>(count));
  }
  return out;
}

Json tokenizer_skeleton() {
  Json json = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  json["added_tokens"] = Json::array();
  for (const char* part : {"normalizer", "pre_tokenizer", "post_processor", "decoder", "model"})
    json[part] = nullptr;
  return json;
}

Json added_token_json(int64_t id, const std::string& content, bool special) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

Json template_json(const std::vector<std::pair<std::string, int64_t>>& before,
                   const std::vector<std::pair<std::string, int64_t>>& after) {
  if (before.empty() && after.empty()) return nullptr;
  Json single = Json::array(), pair = Json::array(), tokens = Json::object();
  const auto add = [&](const std::vector<std::pair<std::string, int64_t>>& list) {
    for (const auto& [name, id] : list) {
      const Json piece = {{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
      single.push_back(piece);
      pair.push_back(piece);
      tokens[name] = {{"id", name}, {"ids", Json::array({id})}, {"tokens", Json::array({name})}};
    }
  };
  add(before);
  for (const char* text : {"A", "B"}) {
    const Json piece = {{"Sequence", {{"id", text}, {"type_id", text[0] - 'A'}}}};
    if (text[0] == 'A') single.push_back(piece);
    pair.push_back(piece);
  }
  add(after);
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

Json byte_level_json(bool use_regex) {
  return {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json byte_level_splits(const std::vector<std::string>& patterns) {
  Json list = Json::array();
  for (const std::string& pattern : patterns)
    list.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
  list.push_back(byte_level_json(false));
  Json sequence = {{"type", "Sequence"}};
  sequence["pretokenizers"] = std::move(list);
  return sequence;
}

Json bpe_model_json(bool byte_fallback, bool ignore_merges) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", byte_fallback},
          {"byte_fallback", byte_fallback},
          {"ignore_merges", ignore_merges}};
}

Json sentencepiece_decoder(bool strip_first_space) {
  Json list = Json::array();
  list.push_back({{"type", "Replace"}, {"pattern", {{"String", "\xE2\x96\x81"}}}, {"content", " "}});
  list.push_back({{"type", "ByteFallback"}});
  list.push_back({{"type", "Fuse"}});
  if (strip_first_space) list.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  Json sequence = {{"type", "Sequence"}};
  sequence["decoders"] = std::move(list);
  return sequence;
}

}  // namespace llmctl
