// SPDX-License-Identifier: Apache-2.0
// tokenizer.json (Hugging Face tokenizers, version 1.0) and tokenizer_config.json to a Tokenizer.
// Every component is either understood or refused by name; every id is checked before use.
#include <algorithm>
#include <future>

#include "core/base/digest.h"
#include "data/text/base64.h"
#include "data/text/json_fields.h"
#include "data/tokenizer/sentencepiece_text.h"
#include "data/tokenizer/tokenizer_state.h"

namespace llmctl {

namespace {

using State = Tokenizer::State;

void read_added(const Json& added, bool sentencepiece, State& state) {
  for (const Json& json : added) {
    AddedToken token;
    token.content = string_field(json, "content");
    token.id = static_cast<int32_t>(int_field(json, "id", 0, kMaxTokenId));
    token.special = bool_field(json, "special", false);
    token.normalized = bool_field(json, "normalized", !token.special);
    token.lstrip = bool_field(json, "lstrip", false);
    token.rstrip = bool_field(json, "rstrip", false);
    token.single_word = bool_field(json, "single_word", false);
    check(!token.content.empty(), Code::input, "[tokenizer] added token ", token.id, " is empty");
    const auto known = state.ids.find(token.content);
    if (!known)
      add_entry(state, token.content, token.id);
    else
      check(*known == token.id, Code::input, "[tokenizer] added token '", token.content, "' has id ", token.id,
            " but ", *known, " in the vocabulary");
    State::Entry& entry = state.entries[static_cast<size_t>(token.id)];
    entry.special = token.special;
    entry.added = true;
    // Pieces that users defined are found by sentencepiece itself, in normalized text.
    if (sentencepiece && !token.special) {
      if (!state.other) state.normalized_finder.add(token, token.content);
    } else if (token.normalized)
      state.normalized_finder.add(token, state.normalizer.apply(token.content));
    else
      state.raw_finder.add(token, token.content);
  }
}

// What each id adds to decoded text. Of a byte-level file added tokens add their content.
void read_pieces(State& state) {
  const TokenDecoder& decoder = state.decoder;
  if (decoder.first_differs()) state.first_bytes.resize(state.entries.size());
  for (size_t id = 0; id < state.entries.size(); ++id) {
    State::Entry& entry = state.entries[id];
    if (!entry.present) continue;
    const bool as_is = entry.added && decoder.byte_level();
    entry.bytes = as_is ? entry.spelling : decoder.bytes_of(entry.spelling, false);
    if (decoder.first_differs())
      state.first_bytes[id] = as_is ? entry.spelling : decoder.bytes_of(entry.spelling, true);
  }
}

// A token named in tokenizer_config.json, as a string or an AddedToken object.
std::optional<int32_t> named_token(const Json& config, const char* key, const State& state) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return std::nullopt;
  const std::string name = it->is_object() ? string_field(*it, "content") : string_field(config, key);
  const auto id = state.ids.find(name);
  check(id.has_value(), Code::input, "[tokenizer] ", key, " '", name, "' is not in the vocabulary");
  return id;
}

void read_config(const Json& config, State& state) {
  if (config.is_null()) return;
  check(config.is_object(), Code::input, "[tokenizer] tokenizer_config is ", config.type_name(),
        ", not an object");
  state.bos = named_token(config, "bos_token", state);
  state.eos = named_token(config, "eos_token", state);
  const auto text = config.find("chat_template");
  if (text != config.end() && text->is_string()) state.chat_template = text->get<std::string>();
  if (text != config.end() && text->is_array())  // a list of named templates
    for (const Json& named : *text)
      if (string_field(named, "name") == "default") state.chat_template = string_field(named, "template");
}

const Json* find_charsmap(const Json& normalizer) {
  if (!normalizer.is_object()) return nullptr;
  if (type_field(normalizer) == "Precompiled") return &normalizer;
  const Json& list = field_or_null(normalizer, "normalizers");
  if (!list.is_array()) return nullptr;
  for (const Json& item : list)
    if (item.is_object() && type_field(item) == "Precompiled") return &item;
  return nullptr;
}

// A file made from a sentencepiece model says in tokenizer_config.json what Hugging Face's normalizers
// cannot: the model's own normalization is done then, with the charsmap of the tokenizer.json.
void read_sentencepiece_normalizer(const Json& json, const Json& extension, State& state) {
  const Json& spm = field_or_null(extension, "sentencepiece");
  if (spm.is_null()) return;
  SentencePieceRules rules;
  rules.add_dummy_prefix = bool_field(spm, "add_dummy_prefix", true);
  rules.remove_extra_whitespaces = bool_field(spm, "remove_extra_whitespaces", true);
  rules.escape_whitespaces = bool_field(spm, "escape_whitespaces", true);
  rules.space_as_suffix = bool_field(spm, "treat_whitespace_as_suffix", false);
  if (const Json* map = find_charsmap(field_or_null(json, "normalizer"))) {
    const auto bytes = from_base64(string_field(*map, "precompiled_charsmap"));
    check(bytes.has_value(), Code::input, "[tokenizer] precompiled_charsmap is no base 64");
    rules.map = std::make_shared<const Charsmap>(*bytes);
  }
  const Json& defined = field_or_null(spm, "user_defined");
  std::vector<std::string> list;
  if (!defined.is_null()) list = defined.get<std::vector<std::string>>();
  if (!list.empty()) {
    std::vector<std::pair<std::string_view, int32_t>> entries;
    for (const std::string& token : list) entries.emplace_back(token, 0);
    rules.user_defined = std::make_shared<const ByteTrie>(std::move(entries));
  }
  state.normalizer = Normalizer(rules);
  state.pre_tokenizer = PreTokenizer();
}

void read_all(const Json& json, const Json& config, const std::vector<IdMerge>& merges, State& state) {
  check(json.is_object(), Code::input, "[tokenizer] the file is ", json.type_name(), ", not an object");
  const Json empty = Json::array();
  const Json& given = field_or_null(json, "added_tokens");
  const Json& added = given.is_null() ? empty : given;
  check(added.is_array(), Code::input, "[tokenizer] 'added_tokens' is not a list");
  check(field_or_null(json, "truncation").is_null() && field_or_null(json, "padding").is_null(),
        Code::unsupported, "[tokenizer] truncation and padding inside tokenizer.json are not offered");
  state.normalizer = Normalizer(field_or_null(json, "normalizer"));
  state.pre_tokenizer = PreTokenizer(field_or_null(json, "pre_tokenizer"));
  const Json& extension = config.is_object() ? field_or_null(config, "llmctl") : config;
  if (extension.is_object()) read_sentencepiece_normalizer(json, extension, state);
  read_model(field(json, "model"), added, extension, merges, state);
  read_added(added, extension.is_object() && extension.contains("sentencepiece"), state);
  state.decoder = TokenDecoder(field_or_null(json, "decoder"));
  check(state.decoder.byte_level() || !state.bpe.byte_level, Code::unsupported,
        "[tokenizer] a ByteLevel pre_tokenizer without a ByteLevel decoder is not offered");
  read_pieces(state);
  read_post_processor(field_or_null(json, "post_processor"), state, 0);
  read_config(config, state);
}

// Messages quote tokens, and a token may hold anything.
std::string one_line(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  return text;
}

}  // namespace

const Json& field_or_null(const Json& json, const char* key) {
  static const Json null;
  const auto it = json.find(key);
  return it == json.end() ? null : *it;
}

Tokenizer Tokenizer::from_json(const Json& tokenizer_json, const Json& tokenizer_config) {
  return from_source({tokenizer_json, tokenizer_config, {}});
}

Tokenizer Tokenizer::from_source(const TokenizerSource& source) {
  auto state = std::make_shared<State>();
  try {
    read_all(source.tokenizer, source.config, source.merges, *state);
    // On a thread of its own, if there is one, while this one spells the file again.
    std::future<std::unique_ptr<const BpeEncoder>> quick;
    if (!state->other) quick = std::async([&] { return BpeEncoder::make(state->bpe); });
    state->json_text = source.tokenizer.dump();
    state->config_text = source.config.is_null() ? "{}" : source.config.dump();
    state->digest = digest_of(state->json_text).hex();
    if (quick.valid()) state->quick = quick.get();
  } catch (const Error& e) {
    throw Error(e.code, one_line(e.what()));
  } catch (const nlohmann::json::exception& e) {
    throw Error(Code::input, one_line(std::string("[tokenizer] malformed: ") + e.what()));
  }
  Tokenizer tokenizer;
  tokenizer.state_ = std::move(state);
  return tokenizer;
}

}  // namespace llmctl
