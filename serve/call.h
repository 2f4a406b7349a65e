// SPDX-License-Identifier: Apache-2.0
// What a client asked of /v1/chat/completions or /v1/completions, checked field by field. OpenAI's
// names and ranges, and the extras that other servers made common: top_k, min_p,
// repetition_penalty, ignore_eos, min_tokens, stop_token_ids, return_token_ids.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/engine/engine.h"
#include "data/tokenizer/chat.h"
#include "serve/body.h"

namespace llmctl::serve {

struct Prompt {
  std::string text;          // when ids is empty
  std::vector<int32_t> ids;  // sent as token ids
};

struct GenerationCall {
  bool chat = false;
  std::string model;                  // "" when the client named none
  std::vector<ChatMessage> messages;  // chat
  std::vector<Prompt> prompts;        // completions
  Sampling sampling;                  // without max_tokens, seed and choice
  std::optional<int64_t> max_tokens, seed;
  int n = 1;  // choices per prompt
  bool stream = false, include_usage = false, echo = false, return_token_ids = false, logprobs = false;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_ids;
};

constexpr int kMaxChoices = 128, kMaxPrompts = 256, kMaxStops = 16, kMaxTopLogprobs = 20;

// vocab bounds the token ids. ApiError{400} naming the field.
GenerationCall parse_chat_call(const Body& body, int64_t vocab);
GenerationCall parse_completion_call(const Body& body, int64_t vocab);
// The text of a chat content: a string, or an array of text parts.
std::string text_of_content(const Body& content, const std::string& param);

}  // namespace llmctl::serve
