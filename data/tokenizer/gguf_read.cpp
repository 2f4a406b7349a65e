// SPDX-License-Identifier: Apache-2.0
// Vocabularies inside GGUF files (ggml's docs/gguf.md, keys tokenizer.ggml.*): byte-level BPE ("gpt2")
// and sentencepiece BPE ("llama").
#include "core/io/gguf.h"
#include "data/tokenizer/gguf_pre.h"
#include "data/tokenizer/sentencepiece_bpe.h"
#include "data/tokenizer/tokenizer_source.h"

namespace llmctl {

namespace {

const std::string kPrefix = "tokenizer.ggml.";

class Vocabulary {
 public:
  explicit Vocabulary(const fs::path& path) : file_(path) {
    const auto* tokens = file_.texts(kPrefix + "tokens");
    check(tokens && !tokens->empty(), Code::input, "[tokenizer] ", path.string(), " holds no vocabulary");
    tokens_ = *tokens;
    const auto* types = file_.integers(kPrefix + "token_type");
    check(!types || types->size() == tokens_.size(), Code::input, "[tokenizer] ", types ? types->size() : 0,
          " token types for ", tokens_.size(), " tokens");
    if (types) types_ = *types;
  }
  const GgufMetadata& file() const { return file_; }
  const std::vector<std::string>& tokens() const { return tokens_; }
  PieceType type_of(size_t id) const {
    const int64_t type = types_.empty() ? 1 : types_[id];
    check(type >= 1 && type <= 6, Code::input, "[tokenizer] token ", id, " is of type ", type, ", not 1..6");
    return static_cast<PieceType>(type);
  }
  // {spelling, id} of a token named by its id, or nothing.
  std::vector<std::pair<std::string, int64_t>> named(const char* name) const {
    const auto id = file_.integer(kPrefix + name);
    if (!id) return {};
    check(*id >= 0 && *id < static_cast<int64_t>(tokens_.size()), Code::input, "[tokenizer] ", name, " is ",
          *id, " of ", tokens_.size(), " tokens");
    return {{tokens_[static_cast<size_t>(*id)], *id}};
  }
  bool flag(const char* name, bool fallback) const {
    return file_.boolean(kPrefix + name).value_or(fallback);
  }

 private:
  GgufMetadata file_;
  std::vector<std::string> tokens_;
  std::vector<int64_t> types_;
};

// What every kind has: tokens that are looked for, what the template adds, the names in the config.
void add_frame(const Vocabulary& vocabulary, bool bos_by_default, TokenizerSource& source) {
  using Tokens = std::vector<std::pair<std::string, int64_t>>;
  const bool bos = vocabulary.flag("add_bos_token", bos_by_default);
  const bool eos = vocabulary.flag("add_eos_token", false);
  source.tokenizer["post_processor"] = template_json(bos ? vocabulary.named("bos_token_id") : Tokens(),
                                                     eos ? vocabulary.named("eos_token_id") : Tokens());
  source.config["tokenizer_class"] = "PreTrainedTokenizerFast";
  source.config["clean_up_tokenization_spaces"] = false;
  for (const char* name : {"bos_token", "eos_token", "pad_token", "unk_token"}) {
    const std::string key = std::string(name) == "pad_token"   ? "padding_token_id"
                            : std::string(name) == "unk_token" ? "unknown_token_id"
                                                               : std::string(name) + "_id";
    for (const auto& [spelling, id] : vocabulary.named(key.c_str())) source.config[name] = spelling;
  }
  if (const auto chat = vocabulary.file().text("tokenizer.chat_template"))
    source.config["chat_template"] = *chat;
}

void add_byte_level(const Vocabulary& vocabulary, TokenizerSource& source) {
  const auto name = vocabulary.file().text(kPrefix + "pre");
  check(name.has_value(), Code::unsupported,
        "[tokenizer] the GGUF file has no tokenizer.ggml.pre, and does not say how its text is cut; use the "
        "model's tokenizer.json");
  const GgufPre pre = gguf_pre(*name);
  Json& json = source.tokenizer;
  Json vocab = Json::object();
  for (size_t id = 0; id < vocabulary.tokens().size(); ++id) {
    const PieceType type = vocabulary.type_of(id);
    append(vocab, vocabulary.tokens()[id], id);
    if (type == PieceType::control || type == PieceType::user_defined || type == PieceType::unknown)
      json["added_tokens"].push_back(added_token_json(static_cast<int64_t>(id), vocabulary.tokens()[id],
                                                      type != PieceType::user_defined));
  }
  const auto* merges = vocabulary.file().texts(kPrefix + "merges");
  check(merges != nullptr, Code::input, "[tokenizer] the GGUF file has no tokenizer.ggml.merges");
  json["pre_tokenizer"] = byte_level_splits(pre.patterns);
  json["decoder"] = byte_level_json(true);
  json["model"] = bpe_model_json(false, pre.ignore_merges);
  json["model"]["vocab"] = std::move(vocab);
  json["model"]["merges"] = *merges;
  if (pre.nfc) json["normalizer"] = {{"type", "NFC"}};
  add_frame(vocabulary, pre.add_bos, source);
}

void add_sentencepiece(const Vocabulary& vocabulary, TokenizerSource& source) {
  const auto* scores = vocabulary.file().numbers(kPrefix + "scores");
  check(scores && scores->size() == vocabulary.tokens().size(), Code::input, "[tokenizer] ",
        scores ? scores->size() : 0, " scores for ", vocabulary.tokens().size(), " tokens");
  std::vector<SentencePiece> pieces;
  for (size_t id = 0; id < scores->size(); ++id)
    pieces.push_back({vocabulary.tokens()[id], static_cast<float>((*scores)[id]), vocabulary.type_of(id)});
  SentencePieceText text;
  text.add_dummy_prefix = vocabulary.flag("add_space_prefix", true);
  text.remove_extra_whitespaces = false;
  sentencepiece_bpe(pieces, text, source);
  add_frame(vocabulary, true, source);
}

}  // namespace

TokenizerSource source_of_gguf(const fs::path& path) {
  const Vocabulary vocabulary(path);
  const std::string model = vocabulary.file().text(kPrefix + "model").value_or("");
  TokenizerSource source{tokenizer_skeleton(), Json::object()};
  if (model == "gpt2")
    add_byte_level(vocabulary, source);
  else if (model == "llama")
    add_sentencepiece(vocabulary, source);
  else
    throw Error(Code::unsupported,
                "[tokenizer] tokenizer.ggml.model '" + model +
                    "' is not offered, only gpt2 and llama; use the model's tokenizer.json");
  return source;
}

}  // namespace llmctl
