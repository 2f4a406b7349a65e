// SPDX-License-Identifier: Apache-2.0
// The JSON shapes of OpenAI's chat completions and completions, whole and in chunks. Nothing here
// decides anything; values go in, objects come out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "data/tokenizer/tokenizer.h"
#include "serve/choice_text.h"

namespace llmctl::serve {

struct ReplyHead {
  bool chat = false;
  std::string id, model, fingerprint;
  int64_t created = 0;  // Unix seconds
};

struct Usage {
  int64_t prompt = 0, completion = 0;
  Json json() const;
};

struct ChoiceShape {
  size_t index = 0;
  std::string text;
  std::vector<ShownToken> tokens;
  std::string finish;               // "" is null
  bool logprobs = false;            // send the tokens' log-probabilities
  bool token_ids = false;           // send the ids
  std::vector<int32_t> prompt_ids;  // sent with token_ids when not empty
  bool role = false;                // the first delta of a streamed chat choice
};

// The answer without `choices` filled: object, id, created, model, system_fingerprint, choices.
Json reply_json(const ReplyHead& head, bool chunk);
Json whole_choice(const ReplyHead& head, const Tokenizer& tokenizer, const ChoiceShape& choice);
Json chunk_choice(const ReplyHead& head, const Tokenizer& tokenizer, const ChoiceShape& choice);
// "data: {...}\n\n"
std::string event_of(const Json& json);

}  // namespace llmctl::serve
