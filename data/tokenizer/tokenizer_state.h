// SPDX-License-Identifier: Apache-2.0
// What a Tokenizer is made of, shared by its readers (tokenizer_read.cpp, model_read.cpp,
// post_processor_read.cpp) and its methods. Internal to the data room.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/bpe_encoder.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/pre_tokenizer.h"
#include "data/tokenizer/token_decoder.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/tokenizer_source.h"

namespace llmctl {

struct Tokenizer::State {
  struct Entry {
    std::string spelling, bytes;  // bytes: what the token adds to decoded text
    bool present = false, special = false, added = false;
  };
  std::string json_text, config_text;    // as loaded, for save()
  std::vector<Entry> entries;            // by id
  std::vector<std::string> first_bytes;  // by id, when the first token of a text adds something else
  StringIds ids;                         // spelling to id
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  Bpe bpe;                                  // what BPE files hold, and the fast path
  std::unique_ptr<const BpeEncoder> quick;  // of bpe, where it fits
  std::unique_ptr<const TokenModel> other;  // the model of files of another kind, else null
  const TokenModel& model() const { return other ? *other : bpe; }
  AddedTokenFinder raw_finder, normalized_finder;  // matched before and after normalization
  TokenDecoder decoder;
  std::vector<int32_t> prefix, suffix;  // what the template adds
  std::optional<int32_t> bos, eos;
  std::string chat_template, digest;

  const std::string& bytes_of(size_t id, bool first) const {
    return first && !first_bytes.empty() ? first_bytes[id] : entries[id].bytes;
  }
};

// The parts of a tokenizer.json. All of them: Error{input|unsupported}, by name.
constexpr int64_t kMaxTokenId = (int64_t{1} << 24) - 1;
void add_entry(Tokenizer::State& state, const std::string& spelling, int64_t id);
// The vocabulary and the model; `extension` is the "llmctl" object of tokenizer_config.json, or null.
// `merges`: those of the model as ids, or none.
void read_model(const Json& model, const Json& added, const Json& extension, const std::vector<IdMerge>& merges,
                Tokenizer::State& state);
void read_post_processor(const Json& json, Tokenizer::State& state, int depth);
const Json& field_or_null(const Json& json, const char* key);

}  // namespace llmctl
