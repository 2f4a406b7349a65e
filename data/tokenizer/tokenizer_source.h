// SPDX-License-Identifier: Apache-2.0
// Vocabularies of other forms as the tokenizer.json that says the same: what Tokenizer::load reads them
// through, and what `tokenize convert` writes. Where Hugging Face's format cannot say all, the object
// "llmctl" of tokenizer_config.json says the rest, and our own reader heeds it:
//   merges_per_rank   how many merges in a row share a rank (tiktoken and sentencepiece rank results)
//   sentencepiece     the model's own normalization and scores
// Errors: Error{input} for what is malformed, Error{unsupported} naming what is not offered.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "data/tokenizer/string_ids.h"

namespace llmctl {

// A merge of two tokens, by their ids.
struct IdMerge {
  int32_t left, right, joined;
};

struct TokenizerSource {
  Json tokenizer, config;
  std::vector<IdMerge> merges;  // those of `tokenizer` in their order, or none: they need not be looked up again
};

// `name` is the file's name without its ending: it decides pattern and special tokens where the digest
// of the content is not one of the published files'.
TokenizerSource source_of_tiktoken(std::string_view content, const std::string& name);
// encoder.json and vocab.bpe of GPT-2, whose names in a folder may carry a prefix.
TokenizerSource source_of_gpt2_pair(const fs::path& encoder, const fs::path& merges);
TokenizerSource source_of_gguf(const fs::path& path);
// A sentencepiece ModelProto (sentencepiece_model.proto), BPE or Unigram.
TokenizerSource source_of_sentencepiece(std::string_view content);

// ---- what these share

// A pair of strings that are tokens and joined make the token that they are listed under, and how many
// of them share a rank.
struct RankedMerges {
  Json merges = Json::array(), per_rank = Json::array();
  std::vector<IdMerge> ids;
};
// `results` in order of rank, each group made at one rank; `tokens` are what may be a part, and the results.
// Cut at code points where `whole_points`, else at bytes; `spell` is how a part is written.
RankedMerges merges_of(const std::vector<std::vector<std::string>>& results, const StringIds& tokens,
                       bool whole_points,
                       const std::function<std::string(std::string_view)>& spell);
Json tokenizer_skeleton();  // every field of a tokenizer.json, with null or nothing in it
Json added_token_json(int64_t id, const std::string& content, bool special);
// The template that sets tokens before and after a text; null when there are none.
Json template_json(const std::vector<std::pair<std::string, int64_t>>& before,
                   const std::vector<std::pair<std::string, int64_t>>& after);
// Splits of the patterns in order (Isolated), then ByteLevel without one of its own.
Json byte_level_splits(const std::vector<std::string>& patterns);
Json byte_level_json(bool use_regex);
Json bpe_model_json(bool byte_fallback, bool ignore_merges);
// U+2581 for spaces: what sentencepiece's tokens are decoded by.
Json sentencepiece_decoder(bool strip_first_space);

}  // namespace llmctl
