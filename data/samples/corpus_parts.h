// SPDX-License-Identifier: Apache-2.0
// The writers behind corpus.h. Internal to the data room.
#pragma once

#include <string>
#include <vector>

#include "data/packed/counter_random.h"
#include "data/tokenizer/chat.h"

namespace llmctl {

std::string write_story(CounterRandom& random);
struct Passage {
  std::string text;
  std::vector<std::pair<std::string, std::string>> questions;  // with answers, shuffled
};
Passage write_passage(CounterRandom& random);
std::vector<ChatMessage> write_chat(CounterRandom& random);
// A request to be refused, with its category.
std::pair<std::string, std::string> write_unsafe_request(CounterRandom& random);
std::string write_safe_request(CounterRandom& random);

}  // namespace llmctl
