// SPDX-License-Identifier: Apache-2.0
// The "post_processor" of a tokenizer.json, as far as one text needs it: the ids before and after it.
#include "data/text/json_fields.h"
#include "data/tokenizer/tokenizer_state.h"

namespace llmctl {

namespace {

int32_t known_id(const Json& id, const Tokenizer::State& state, const char* who) {
  const bool known = id.is_number_integer() && id.get<uint64_t>() < state.entries.size() &&
                     state.entries[id.get<size_t>()].present;
  check(known, Code::input, "[tokenizer] ", who, " uses id ", id.dump(), ", not in the vocabulary");
  return id.get<int32_t>();
}

void read_template(const Json& json, Tokenizer::State& state) {
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
    for (const Json& id : ids)
      (text_seen ? state.suffix : state.prefix).push_back(known_id(id, state, "TemplateProcessing"));
  }
  check(text_seen, Code::input, "[tokenizer] TemplateProcessing leaves the text out");
}

// "cls" before the text and "sep" after it, each [spelling, id].
void read_pair(const Json& json, const std::string& type, Tokenizer::State& state) {
  for (const char* key : {"cls", "sep"}) {
    const Json& token = field(json, key);
    check(token.is_array() && token.size() == 2, Code::input, "[tokenizer] '", key, "' of ", type,
          " is not a token and its id");
    (key[0] == 'c' ? state.prefix : state.suffix).push_back(known_id(token[1], state, type.c_str()));
  }
}

}  // namespace

void read_post_processor(const Json& json, Tokenizer::State& state, int depth) {
  if (json.is_null()) return;
  check(depth < 4, Code::input, "[tokenizer] post_processors nest deeper than 4");
  const std::string type = type_field(json);
  if (type == "ByteLevel") return;  // moves offsets only, and ours are of bytes
  if (type == "Sequence") {
    const Json& list = field(json, "processors");
    check(list.is_array(), Code::input, "[tokenizer] 'processors' is not a list");
    for (const Json& item : list) read_post_processor(item, state, depth + 1);
    return;
  }
  const bool pair = type == "BertProcessing" || type == "RobertaProcessing";
  check(pair || type == "TemplateProcessing", Code::unsupported, "[tokenizer] post_processor '", type,
        "' is not offered");
  check(state.prefix.empty() && state.suffix.empty(), Code::unsupported,
        "[tokenizer] two post_processors that add tokens are not offered");
  if (pair)
    read_pair(json, type, state);
  else
    read_template(json, state);
}

}  // namespace llmctl
