// SPDX-License-Identifier: Apache-2.0
// Text to ids and back. One class for every kind of vocabulary; what a file asks for that we do
// not do exactly is refused by name (Error{unsupported}), never approximated.
// Threads: const methods may be called from many threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/file.h"
#include "core/base/json.h"

namespace llmctl {

struct EncodeOptions {
  bool add_special = true;     // what the template adds (BOS, EOS)
  bool parse_special = false;  // text that looks like a special token becomes one; else it is text
};

// What one thread keeps between texts: the ids of pieces seen lately, in so many bytes. It saves merging
// them again and never changes the ids.
class EncodeScratch {
 public:
  explicit EncodeScratch(size_t cache_bytes = size_t{4} << 20);  // 0: none
  ~EncodeScratch();
  EncodeScratch(EncodeScratch&&) noexcept;

 private:
  friend class Tokenizer;
  struct State;
  std::unique_ptr<State> state_;
};

// An id and the bytes of the text it stands for; begin == end for what the text does not hold (a template's
// token, a space set in front). A character that became several tokens lies in all of theirs.
struct TokenSpan {
  int32_t id = -1;
  size_t begin = 0, end = 0;
};

struct TokenizerSource;

class Tokenizer {
 public:
  // A model folder, or a file: tokenizer.json, .tiktoken, sentencepiece's .model, .gguf, GPT-2's
  // encoder.json with vocab.bpe beside it. Error{input|unsupported}.
  static Tokenizer load(const fs::path& path);
  static Tokenizer from_json(const Json& tokenizer_json, const Json& tokenizer_config);
  static Tokenizer from_source(const TokenizerSource& source);  // tokenizer_source.h
  // Writes tokenizer.json and tokenizer_config.json into a folder, whatever it was read from.
  void save(const fs::path& folder) const;

  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;
  // The same, appended, with a scratch of the calling thread.
  void encode(std::string_view text, EncodeOptions options, EncodeScratch& scratch,
              std::vector<int32_t>& out) const;
  // Where a text may be cut in two, the ids of the parts (without what the template adds) being those of
  // the whole: the first such place at or after `from`, or text.size(). Places are after a newline with
  // printing ASCII before it and an ASCII letter after it, if the pieces are a known pattern's and nothing
  // is normalized or looked for in the text.
  size_t cut_after(std::string_view text, size_t from) const;
  // What the template puts before and after a text.
  const std::vector<int32_t>& prefix() const;
  const std::vector<int32_t>& suffix() const;
  // The same ids, with offsets in bytes of the text as given, before normalization. Slower.
  std::vector<TokenSpan> encode_with_offsets(std::string_view text, EncodeOptions options = {}) const;
  // Exact bytes. Special tokens are left out when skip_special.
  std::string decode(const std::vector<int32_t>& ids, bool skip_special = true) const;
  // The bytes one id adds when it follows other tokens.
  std::string piece(int32_t id) const;

  int64_t vocab_size() const;  // largest id + 1
  std::optional<int32_t> id_of(std::string_view token) const;
  std::string token_of(int32_t id) const;  // as spelled in the vocabulary
  bool is_special(int32_t id) const;
  std::optional<int32_t> bos() const;
  std::optional<int32_t> eos() const;
  std::string chat_template() const;  // "" when the folder has none
  std::string digest() const;         // of the vocabulary and the pipeline

  struct State;  // defined inside the data room

 private:
  friend class StreamDecoder;
  std::shared_ptr<const State> state_;
};

// Ids one by one to text that never ends inside a UTF-8 code point: an incomplete tail is held
// back until it completes or finish() is called (then U+FFFD replaces it).
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  std::string push(int32_t id);
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace llmctl
