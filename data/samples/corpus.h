// SPDX-License-Identifier: Apache-2.0
// The embedded corpus: English of our own, written from a seed, as much as asked for. The same seed
// gives the same documents on every machine, and document i does not depend on how many are made.
//
//   story       short stories: six plots, each beat in several wordings, drawn words
//   arithmetic  worked problems (arithmetic.h), never a held-out one
//   passage     a passage of facts with questions and answers
//   chat        turns for the chat template: small talk, arithmetic, questions, stories, refusals
//
// Beside these, labelled requests for the moderation classifier: safe ones, and mildly worded unsafe
// ones under the category names of OpenAI's moderation object.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "data/tokenizer/chat.h"

namespace llmctl {

struct CorpusMix {  // shares of the bytes, any scale
  double story = 30, arithmetic = 40, passage = 12, chat = 18;
};
struct CorpusOptions {
  uint64_t seed = 1;
  uint64_t bytes = 1 << 20;  // at least so many bytes of text
  CorpusMix mix;
};
struct CorpusDocument {
  std::string kind;
  std::string text;                   // "" for a chat
  std::vector<ChatMessage> messages;  // of a chat
  uint64_t bytes() const;             // of text and messages
  Json to_json() const;               // {"text"} or {"messages": [{"role", "content"}]}, and "kind"
};

CorpusDocument corpus_document(const std::string& kind, uint64_t seed, uint64_t index);
// Documents in order until the bytes are reached: always the kind that is furthest behind its share.
// Error{usage} when no share is above 0.
void generate_corpus(const CorpusOptions& options, const std::function<void(const CorpusDocument&)>& sink);

struct LabelledRequest {
  std::string text;
  std::vector<std::string> categories;  // empty: safe
  Json to_json() const;                 // {"text", "categories"}
};
// Three in five are safe. The words of some unsafe ones also occur in safe ones ("kill a process").
LabelledRequest labelled_request(uint64_t seed, uint64_t index);

}  // namespace llmctl
