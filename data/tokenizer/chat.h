// SPDX-License-Identifier: Apache-2.0
// Chat turns to ids. ChatML for now; a folder whose chat_template is another one is refused by
// name (Error{unsupported}). Message text can never become a special token.
#pragma once

#include <string>
#include <vector>

#include "data/tokenizer/tokenizer.h"

namespace llmctl {

struct ChatMessage {
  std::string role, content;
};
// The ChatML Jinja template that we write into tokenizer_config.json.
extern const char* const kChatMlTemplate;
// "<|im_start|>role\ncontent<|im_end|>\n" per turn, then "<|im_start|>assistant\n" when
// add_generation_prompt. Error{unsupported} when the tokenizer's template is not ChatML.
std::vector<int32_t> apply_chat_template(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages,
                                         bool add_generation_prompt);
// Ids that end an assistant turn (<|im_end|>).
std::vector<int32_t> chat_stop_ids(const Tokenizer& tokenizer);

}  // namespace llmctl
