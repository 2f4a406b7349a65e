// SPDX-License-Identifier: Apache-2.0
// What a Tokenizer is made of, shared by its reader (tokenizer_read.cpp) and its methods. Internal
// to the data room.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/bpe_encoder.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/pre_tokenizer.h"
#include "data/tokenizer/tokenizer.h"

namespace llmctl {

// What the file's "decoder" does to the spelling of a token.
struct TokenDecoder {
  bool byte_level = false, byte_fallback = false;
  std::vector<std::pair<std::string, std::string>> replacements;
  std::string strip;    // one character, or nothing
  int strip_start = 0;  // so many of it are taken off the start of a whole text
};

struct Tokenizer::State {
  struct Entry {
    std::string spelling, bytes;  // bytes: what the token adds to decoded text
    bool present = false, special = false;
  };
  std::string json_text, config_text;  // as loaded, for save()
  std::vector<Entry> entries;          // by id
  StringIds ids;                       // spelling to id
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
};

// Takes at most decoder.strip_start characters off the start of `text`; counts down `left`.
void strip_start(const TokenDecoder& decoder, int& left, std::string& text);

}  // namespace llmctl
