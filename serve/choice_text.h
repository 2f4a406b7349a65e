// SPDX-License-Identifier: Apache-2.0
// The text of one choice as its tokens come: never a broken code point, and never a byte that could
// still turn out to be the start of a stop string, even when the string spans tokens.
#pragma once

#include <string>
#include <vector>

#include "core/engine/engine.h"
#include "data/tokenizer/tokenizer.h"

namespace llmctl::serve {

struct ShownToken {
  TokenOut token;
  size_t offset = 0;    // code points of the shown text before it
  bool first = false;   // the first token of the prompt: nothing predicts it
  bool hidden = false;  // an end token: among the ids, not in the text or the log-probabilities
};

class ChoiceText {
 public:
  // Stop strings count once min_tokens tokens were generated.
  ChoiceText(const Tokenizer& tokenizer, std::vector<std::string> stops, int min_tokens);
  // What came before: sets the decoder's state (a leading space, say) and shows nothing.
  void prime(const std::vector<int32_t>& prompt);
  // hidden: an end token, which has no text.
  void push(const TokenOut& token, bool hidden);
  void finish();  // no more tokens: releases what is held
  bool stopped() const { return stopped_; }

  struct Piece {
    std::string text;
    std::vector<ShownToken> tokens;
  };
  // What became certain since the last call.
  Piece take();

 private:
  struct Held {
    ShownToken shown;
    size_t begin = 0, end = 0;  // bytes in text_
  };
  void append(const std::string& text);
  void look_for_stop(size_t from);
  size_t certain() const;

  StreamDecoder decoder_;
  std::vector<std::string> stops_;
  size_t longest_stop_ = 0;
  int min_tokens_ = 0, generated_ = 0;
  std::string text_;  // all of it, cut at a stop string
  size_t code_points_ = 0, released_ = 0, search_from_ = 0;
  std::vector<Held> held_;
  size_t next_held_ = 0;
  bool stopped_ = false, finished_ = false;
};

}  // namespace llmctl::serve
