// SPDX-License-Identifier: Apache-2.0
// tokenizer.json (Hugging Face tokenizers, version 1.0) and tokenizer_config.json to a Tokenizer.
// Every component is either understood or refused by name; every id is checked before use.
#include <algorithm>

#include "core/base/digest.h"
#include "data/text/json_fields.h"
#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/tokenizer_state.h"

namespace llmctl {

namespace {

using State = Tokenizer::State;
constexpr int64_t kMaxId = (int64_t{1} << 24) - 1;
constexpr size_t kMaxToken = 65536;  // bytes

void add_entry(State& state, const std::string& spelling, int64_t id) {
  check(spelling.size() <= kMaxToken, Code::input, "[tokenizer] token ", id, " has ", spelling.size(),
        " bytes, at most ", kMaxToken, " are read");
  State::Entry& entry = state.entries[static_cast<size_t>(id)];
  check(!entry.present, Code::input, "[tokenizer] id ", id, " is given to '", entry.spelling, "' and to '",
        spelling, "'");
  const bool fresh = state.ids.emplace(spelling, static_cast<int32_t>(id)).second;
  check(fresh, Code::input, "[tokenizer] token '", spelling, "' has two ids");
  entry.spelling = spelling;
  entry.present = true;
}

// Ids may have small holes, as published vocabularies do; a lying id must not allocate gigabytes.
void size_entries(State& state, int64_t largest, size_t tokens) {
  const auto limit = static_cast<int64_t>(2 * tokens + 4096);
  check(largest < limit, Code::input, "[tokenizer] largest id ", largest, " for ", tokens,
        " tokens leaves too many holes");
  state.entries.resize(static_cast<size_t>(largest + 1));
}

void read_vocab(const Json& model, const Json& added, State& state) {
  const Json& vocab = field(model, "vocab");
  check(vocab.is_object(), Code::input, "[tokenizer] 'vocab' is ", vocab.type_name(), ", not an object");
  int64_t largest = -1;
  for (const auto& [spelling, id] : vocab.items()) {
    check(id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() <= kMaxId, Code::input,
          "[tokenizer] id of '", spelling, "' is not an integer in 0..", kMaxId);
    largest = std::max(largest, id.get<int64_t>());
  }
  for (const Json& token : added) largest = std::max(largest, int_field(token, "id", 0, kMaxId));
  check(largest >= 0, Code::input, "[tokenizer] the vocabulary is empty");
  size_entries(state, largest, vocab.size() + added.size());
  for (const auto& [spelling, id] : vocab.items()) add_entry(state, spelling, id.get<int64_t>());
}

std::pair<std::string, std::string> parts_of_merge(const Json& merge) {
  if (merge.is_array()) {
    check(merge.size() == 2 && merge[0].is_string() && merge[1].is_string(), Code::input,
          "[tokenizer] a merge is not a pair of strings");
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  check(merge.is_string(), Code::input, "[tokenizer] a merge is ", merge.type_name(),
        ", not a string or a pair");
  const std::string text = merge.get<std::string>();
  const size_t space = text.find(' ');
  check(space != std::string::npos && text.find(' ', space + 1) == std::string::npos, Code::input,
        "[tokenizer] merge '", text, "' is not two parts with a space between");
  return {text.substr(0, space), text.substr(space + 1)};
}

int32_t id_for_merge(const State& state, const std::string& spelling) {
  const auto it = state.ids.find(spelling);
  check(it != state.ids.end(), Code::input, "[tokenizer] merge needs '", spelling,
        "', which is not in the vocabulary");
  return it->second;
}

void read_merges(const Json& model, State& state) {
  const Json& merges = field(model, "merges");
  check(merges.is_array(), Code::input, "[tokenizer] 'merges' is ", merges.type_name(), ", not a list");
  state.bpe.merges = MergeTable(merges.size());
  int32_t rank = 0;
  for (const Json& merge : merges) {
    const auto [left, right] = parts_of_merge(merge);
    check(!left.empty() && !right.empty(), Code::input, "[tokenizer] merge ", rank, " has an empty part");
    const int32_t joined = id_for_merge(state, left + right);
    state.bpe.merges.set(id_for_merge(state, left), id_for_merge(state, right), {rank++, joined});
  }
}

bool absent_or_empty(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ||
         (it->is_string() && it->get_ref<const std::string&>().empty());
}

void read_model(const Json& model, const Json& added, State& state) {
  check(model.is_object(), Code::input, "[tokenizer] 'model' is ", model.type_name(), ", not an object");
  const std::string type = model.contains("type") ? type_field(model) : "BPE";
  check(type == "BPE", Code::unsupported, "[tokenizer] model '", type, "' is not offered, only BPE");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    check(absent_or_empty(model, key), Code::unsupported, "[tokenizer] model option '", key,
          "' is not offered");
  const auto dropout = model.find("dropout");
  const bool dry =
      dropout == model.end() || dropout->is_null() || (dropout->is_number() && dropout->get<double>() == 0.0);
  check(dry, Code::unsupported, "[tokenizer] model option 'dropout' is not offered");
  state.bpe.fuse_unk = bool_field(model, "fuse_unk", false);
  state.bpe.byte_fallback = bool_field(model, "byte_fallback", false);
  state.bpe.ignore_merges = bool_field(model, "ignore_merges", false);
  read_vocab(model, added, state);
  read_merges(model, state);
  if (!absent_or_empty(model, "unk_token")) {
    const std::string unk = string_field(model, "unk_token");
    const auto it = state.ids.find(unk);
    if (it != state.ids.end()) state.bpe.unk = it->second;
  }
}

std::string byte_spelling(int byte) {
  constexpr char kHex[] = "0123456789ABCDEF";
  return std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">";
}

// The symbols BPE starts from; after this the spelling of a token matters only to people.
void read_symbols(State& state) {
  Bpe& bpe = state.bpe;
  bpe.byte_level = state.pre_tokenizer.byte_level();
  check(!(bpe.byte_level && bpe.byte_fallback), Code::unsupported,
        "[tokenizer] ByteLevel together with byte_fallback is not offered");
  bpe.byte_ids.fill(-1);
  bpe.sizes.assign(state.entries.size(), 0);
  for (const auto& [spelling, id] : state.ids) {
    bpe.sizes[static_cast<size_t>(id)] = static_cast<uint32_t>(spelling.size());
    if (!bpe.byte_level) {
      bpe.ids.emplace(spelling, id);
    } else if (auto bytes = unspell_bytes(spelling)) {
      bpe.sizes[static_cast<size_t>(id)] = static_cast<uint32_t>(bytes->size());
      if (bytes->size() == 1) bpe.byte_ids[static_cast<uint8_t>((*bytes)[0])] = id;
      bpe.ids.emplace(std::move(*bytes), id);
    }
  }
  for (int b = 0; b < 256 && bpe.byte_fallback; ++b) {
    const auto it = state.ids.find(byte_spelling(b));
    if (it != state.ids.end()) bpe.byte_ids[b] = it->second;
  }
}

void read_added(const Json& added, State& state) {
  for (const Json& json : added) {
    AddedToken token;
    token.content = string_field(json, "content");
    token.id = static_cast<int32_t>(int_field(json, "id", 0, kMaxId));
    token.special = bool_field(json, "special", false);
    token.normalized = bool_field(json, "normalized", !token.special);
    token.lstrip = bool_field(json, "lstrip", false);
    token.rstrip = bool_field(json, "rstrip", false);
    check(!bool_field(json, "single_word", false), Code::unsupported, "[tokenizer] added token '",
          token.content, "' asks for single_word, which is not offered");
    check(!token.content.empty(), Code::input, "[tokenizer] added token ", token.id, " is empty");
    const auto known = state.ids.find(token.content);
    if (known == state.ids.end())
      add_entry(state, token.content, token.id);
    else
      check(known->second == token.id, Code::input, "[tokenizer] added token '", token.content, "' has id ",
            token.id, " but ", known->second, " in the vocabulary");
    State::Entry& entry = state.entries[static_cast<size_t>(token.id)];
    entry.special = token.special;
    entry.bytes = token.content;
    if (token.normalized)
      state.normalized_finder.add(token, state.normalizer.apply(token.content));
    else
      state.raw_finder.add(token, token.content);
  }
}

void read_decoder_step(const Json& json, State& state, bool& fused) {
  TokenDecoder& decoder = state.decoder;
  const std::string type = type_field(json);
  if (type == "ByteLevel") {
    decoder.byte_level = true;
  } else if (type == "Replace" && !fused) {
    const Json& pattern = field(json, "pattern");
    check(pattern.is_object() && pattern.contains("String"), Code::unsupported,
          "[tokenizer] decoder Replace by a regular expression is not offered");
    const std::string from = string_field(pattern, "String");
    check(!from.empty(), Code::input, "[tokenizer] decoder Replace has an empty pattern");
    decoder.replacements.emplace_back(from, string_field(json, "content"));
  } else if (type == "ByteFallback" && !fused) {
    decoder.byte_fallback = true;
  } else if (type == "Fuse") {
    fused = true;
  } else if (type == "Strip" && fused && decoder.strip.empty()) {
    decoder.strip = string_field(json, "content");
    decoder.strip_start = static_cast<int>(int_field(json, "start", 0, 1 << 20));
    check(int_field(json, "stop", 0, 1 << 20) == 0, Code::unsupported,
          "[tokenizer] decoder Strip at the end of a text is not offered");
  } else if (type == "Metaspace") {
    const bool prefix = json.contains("prepend_scheme") ? string_field(json, "prepend_scheme") != "never"
                                                        : bool_field(json, "add_prefix_space", true);
    decoder.replacements.emplace_back(string_field(json, "replacement"), " ");
    check(!decoder.replacements.back().first.empty(), Code::input,
          "[tokenizer] Metaspace replacement is empty");
    decoder.strip = prefix ? std::string(" ") : std::string();
    decoder.strip_start = prefix ? 1 : 0;
    fused = true;
  } else {
    throw Error(Code::unsupported, "[tokenizer] decoder '" + type + "' is not offered at this place");
  }
}

void read_decoder(const Json& json, State& state) {
  check(!json.is_null(), Code::unsupported, "[tokenizer] a tokenizer without a decoder is not offered");
  bool fused = false;
  if (type_field(json) == "Sequence") {
    const Json& list = field(json, "decoders");
    check(list.is_array(), Code::input, "[tokenizer] 'decoders' is not a list");
    for (const Json& step : list) read_decoder_step(step, state, fused);
  } else {
    read_decoder_step(json, state, fused);
  }
  check(state.decoder.byte_level == state.bpe.byte_level, Code::unsupported,
        "[tokenizer] ByteLevel must be both the pre_tokenizer and the decoder, or neither");
}

// What each id adds to decoded text. Added tokens add their content, set by read_added.
void read_pieces(State& state) {
  for (State::Entry& entry : state.entries) {
    if (!entry.present || !entry.bytes.empty()) continue;
    entry.bytes = entry.spelling;
    if (state.decoder.byte_level) entry.bytes = unspell_bytes(entry.spelling).value_or(entry.spelling);
    for (const auto& [from, to] : state.decoder.replacements)
      entry.bytes = replace_all(entry.bytes, from, to);
  }
  for (int b = 0; b < 256 && state.decoder.byte_fallback; ++b) {
    const int32_t id = state.bpe.byte_ids[b];
    if (id >= 0) state.entries[static_cast<size_t>(id)].bytes = std::string(1, static_cast<char>(b));
  }
}

void read_template(const Json& json, State& state) {
  const Json& specials = field(json, "special_tokens");
  const Json& single = field(json, "single");
  check(specials.is_object() && single.is_array(), Code::input,
        "[tokenizer] TemplateProcessing is malformed");
  bool text_seen = false;
  for (const Json& piece : single) {
    check(piece.is_object(), Code::input, "[tokenizer] TemplateProcessing is malformed");
    if (piece.contains("Sequence")) {
      check(!text_seen && string_field(piece["Sequence"], "id") == "A", Code::unsupported,
            "[tokenizer] TemplateProcessing for one text must use $A once");
      text_seen = true;
      continue;
    }
    const std::string name = string_field(field(piece, "SpecialToken"), "id");
    const Json& ids = field(field(specials, name.c_str()), "ids");
    check(ids.is_array(), Code::input, "[tokenizer] ids of '", name, "' are not a list");
    for (const Json& id : ids) {
      const bool known = id.is_number_integer() && id.get<uint64_t>() < state.entries.size() &&
                         state.entries[id.get<size_t>()].present;
      check(known, Code::input, "[tokenizer] TemplateProcessing uses id ", id.dump(),
            ", not in the vocabulary");
      (text_seen ? state.suffix : state.prefix).push_back(id.get<int32_t>());
    }
  }
  check(text_seen, Code::input, "[tokenizer] TemplateProcessing leaves the text out");
}

void read_post_processor(const Json& json, State& state, int depth) {
  if (json.is_null()) return;
  check(depth < 4, Code::input, "[tokenizer] post_processors nest deeper than 4");
  const std::string type = type_field(json);
  if (type == "Sequence") {
    const Json& list = field(json, "processors");
    check(list.is_array(), Code::input, "[tokenizer] 'processors' is not a list");
    for (const Json& item : list) read_post_processor(item, state, depth + 1);
  } else if (type == "TemplateProcessing") {
    check(state.prefix.empty() && state.suffix.empty(), Code::unsupported,
          "[tokenizer] two TemplateProcessing steps are not offered");
    read_template(json, state);
  } else {  // ByteLevel moves offsets only, which we do not report
    check(type == "ByteLevel", Code::unsupported, "[tokenizer] post_processor '", type, "' is not offered");
  }
}

// A token named in tokenizer_config.json, as a string or an AddedToken object.
std::optional<int32_t> named_token(const Json& config, const char* key, const State& state) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return std::nullopt;
  const std::string name = it->is_object() ? string_field(*it, "content") : string_field(config, key);
  const auto id = state.ids.find(name);
  check(id != state.ids.end(), Code::input, "[tokenizer] ", key, " '", name, "' is not in the vocabulary");
  return id->second;
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

const Json& field_or_null(const Json& json, const char* key) {
  static const Json null;
  const auto it = json.find(key);
  return it == json.end() ? null : *it;
}

void read_all(const Json& json, const Json& config, State& state) {
  check(json.is_object(), Code::input, "[tokenizer] the file is ", json.type_name(), ", not an object");
  const Json empty = Json::array();
  const Json& given = field_or_null(json, "added_tokens");
  const Json& added = given.is_null() ? empty : given;
  check(added.is_array(), Code::input, "[tokenizer] 'added_tokens' is not a list");
  check(field_or_null(json, "truncation").is_null() && field_or_null(json, "padding").is_null(),
        Code::unsupported, "[tokenizer] truncation and padding inside tokenizer.json are not offered");
  state.normalizer = Normalizer(field_or_null(json, "normalizer"));
  state.pre_tokenizer = PreTokenizer(field_or_null(json, "pre_tokenizer"));
  read_model(field(json, "model"), added, state);
  read_symbols(state);
  read_added(added, state);
  read_decoder(field_or_null(json, "decoder"), state);
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

Tokenizer Tokenizer::from_json(const Json& tokenizer_json, const Json& tokenizer_config) {
  auto state = std::make_shared<State>();
  try {
    read_all(tokenizer_json, tokenizer_config, *state);
    if (!state->other) state->quick = BpeEncoder::make(state->bpe);
    state->json_text = tokenizer_json.dump();
    state->config_text = tokenizer_config.is_null() ? "{}" : tokenizer_config.dump();
  } catch (const Error& e) {
    throw Error(e.code, one_line(e.what()));
  } catch (const nlohmann::json::exception& e) {
    throw Error(Code::input, one_line(std::string("[tokenizer] malformed: ") + e.what()));
  }
  state->digest = digest_of(state->json_text).hex();
  Tokenizer tokenizer;
  tokenizer.state_ = std::move(state);
  return tokenizer;
}

}  // namespace llmctl
