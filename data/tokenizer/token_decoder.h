// SPDX-License-Identifier: Apache-2.0
// What a file's "decoder" does to the spelling of each token, and then to the whole text, with Hugging
// Face's meaning: ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, WordPiece, BPEDecoder and
// sequences of them; no decoder sets spaces between tokens. Bytes stay exact: where Hugging Face puts
// U+FFFD for what is no UTF-8, these bytes themselves come out.
// Threads: const after construction.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"

namespace llmctl {

class TokenDecoder {
 public:
  TokenDecoder() = default;
  explicit TokenDecoder(const Json& json);  // null, or the file's "decoder". Error{input|unsupported}
  bool byte_level() const { return byte_level_; }
  // What the token adds to a text it begins, or to one that has tokens before it.
  std::string bytes_of(const std::string& spelling, bool first) const;
  bool first_differs() const { return first_differs_; }

  // Of a whole text: so many times at most `strip` is taken off its start.
  std::string strip;
  int strip_start = 0;
  // One of these is taken off the end of a whole text.
  std::string last_dropped;

 private:
  using Step = std::function<std::string(std::string, bool first)>;
  void add(const Json& json);
  void add_strip(const Json& json);
  void add_metaspace(const Json& json);
  void add_word_piece(const Json& json);
  std::vector<Step> steps_;
  bool byte_level_ = false, fused_ = false, first_differs_ = false;
};

// Takes at most `left` of decoder.strip off the start of `text`; counts `left` down, to 0 once
// something else stands there.
void strip_start(const TokenDecoder& decoder, int& left, std::string& text);

}  // namespace llmctl
