// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/sentencepiece_bpe.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "data/text/base64.h"

namespace llmctl {

namespace {

const std::string kSpace = "\xE2\x96\x81";

Json normalizer_json(const SentencePieceText& text) {
  Json list = Json::array();
  if (!text.charsmap.empty())
    list.push_back({{"type", "Precompiled"}, {"precompiled_charsmap", to_base64(text.charsmap)}});
  if (text.remove_extra_whitespaces) {
    list.push_back({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}});
    list.push_back({{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", " "}});
  }
  if (text.add_dummy_prefix) list.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
  list.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}});
  Json sequence = {{"type", "Sequence"}};
  sequence["normalizers"] = std::move(list);
  return sequence;
}

// The normalizer for Hugging Face, and the same exactly for us.
void add_text(const std::vector<SentencePiece>& pieces, const SentencePieceText& text,
              TokenizerSource& source) {
  check(text.escape_whitespaces && !text.space_as_suffix, Code::unsupported,
        "[tokenizer] a sentencepiece model that keeps spaces or sets them behind words is not offered");
  source.tokenizer["normalizer"] = normalizer_json(text);
  source.tokenizer["decoder"] = sentencepiece_decoder(text.add_dummy_prefix);
  Json rules = {{"add_dummy_prefix", text.add_dummy_prefix},
                {"remove_extra_whitespaces", text.remove_extra_whitespaces}};
  rules["user_defined"] = Json::array();
  for (const SentencePiece& piece : pieces)
    if (piece.type == PieceType::user_defined) rules["user_defined"].push_back(piece.text);
  source.config["llmctl"]["sentencepiece"] = std::move(rules);
}

// Control pieces are special, user-defined ones are found in normalized text before anything else.
void add_tokens(const std::vector<SentencePiece>& pieces, TokenizerSource& source) {
  for (size_t id = 0; id < pieces.size(); ++id) {
    const PieceType type = pieces[id].type;
    if (type != PieceType::control && type != PieceType::unknown && type != PieceType::user_defined) continue;
    source.tokenizer["added_tokens"].push_back(
        added_token_json(static_cast<int64_t>(id), pieces[id].text, type != PieceType::user_defined));
  }
}

// Equal spellings cannot both be in a vocabulary; the first one counts in sentencepiece too.
void check_unlike(const std::vector<SentencePiece>& pieces) {
  std::unordered_map<std::string_view, size_t> seen;
  for (size_t id = 0; id < pieces.size(); ++id) {
    check(!pieces[id].text.empty(), Code::input, "[tokenizer] piece ", id, " is empty");
    const auto [it, fresh] = seen.emplace(pieces[id].text, id);
    check(fresh, Code::unsupported, "[tokenizer] pieces ", it->second, " and ", id, " are spelled alike");
  }
}

}  // namespace

void sentencepiece_bpe(const std::vector<SentencePiece>& pieces, const SentencePieceText& text,
                       TokenizerSource& source) {
  check_unlike(pieces);
  StringIds parts;
  std::map<float, std::vector<std::string>, std::greater<>> by_score;
  Json vocab = Json::object();
  std::string unknown;
  bool bytes = false;
  for (size_t id = 0; id < pieces.size(); ++id) {
    const SentencePiece& piece = pieces[id];
    append(vocab, piece.text, id);
    bytes = bytes || piece.type == PieceType::byte;
    if (piece.type == PieceType::unknown) unknown = piece.text;
    if (piece.type != PieceType::normal) continue;
    parts.add(piece.text, static_cast<int32_t>(id));
    by_score[piece.score].push_back(piece.text);
  }
  std::vector<std::vector<std::string>> results;
  for (auto& [score, group] : by_score) results.push_back(std::move(group));
  RankedMerges ranked =
      merges_of(results, parts, true, [](std::string_view part) { return std::string(part); });
  source.merges = std::move(ranked.ids);
  add_text(pieces, text, source);
  add_tokens(pieces, source);
  Json& model = source.tokenizer["model"];
  model = bpe_model_json(bytes, false);
  model["fuse_unk"] = true;
  if (!unknown.empty()) model["unk_token"] = unknown;
  model["vocab"] = std::move(vocab);
  model["merges"] = std::move(ranked.merges);
  source.config["llmctl"]["merges_per_rank"] = std::move(ranked.per_rank);
}

void sentencepiece_unigram(const std::vector<SentencePiece>& pieces, const SentencePieceText& text,
                           TokenizerSource& source) {
  check_unlike(pieces);
  Json vocab = Json::array(), scores = Json::object(), unknown;
  bool bytes = false, any = false;
  float lowest = 0;
  for (size_t id = 0; id < pieces.size(); ++id) {
    const SentencePiece& piece = pieces[id];
    check(piece.type != PieceType::unused, Code::unsupported, "[tokenizer] piece ", id,
          " is unused, which is not offered");
    vocab.push_back(Json::array({piece.text, static_cast<double>(piece.score)}));
    bytes = bytes || piece.type == PieceType::byte;
    if (piece.type == PieceType::unknown) unknown = id;
    if (piece.type != PieceType::normal) continue;
    lowest = any ? std::min(lowest, piece.score) : piece.score;
    any = true;
  }
  for (size_t id = 0; id < pieces.size(); ++id)  // always better than what it could be cut into
    if (pieces[id].type == PieceType::user_defined)
      scores[std::to_string(id)] = static_cast<float>(0.1 * static_cast<double>(pieces[id].text.size() - 1));
  add_text(pieces, text, source);
  add_tokens(pieces, source);
  source.tokenizer["model"] = {{"type", "Unigram"}, {"unk_id", unknown}, {"byte_fallback", bytes}};
  source.tokenizer["model"]["vocab"] = std::move(vocab);
  Json& rules = source.config["llmctl"]["sentencepiece"];
  rules["scores"] = std::move(scores);
  rules["unk_score"] = static_cast<double>(lowest - 10.0f);
}

}  // namespace llmctl
