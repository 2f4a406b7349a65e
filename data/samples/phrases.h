// SPDX-License-Identifier: Apache-2.0
// Sentences from patterns: "{name} found {a:thing}." with the words of one document filled in.
#pragma once

#include <initializer_list>
#include <map>
#include <span>
#include <string>

#include "data/packed/counter_random.h"

namespace llmctl {

// One of a list, as drawn.
const char* pick(std::span<const char* const> list, CounterRandom& random);

// Names bound to words. {key} is the word, {Key} with a capital first letter, {a:key} with "a" or
// "an" ({A:key}: "A" or "An").
class Words {
 public:
  void set(const std::string& key, const std::string& word) { words_[key] = word; }
  const std::string& get(const std::string& key) const;  // Error{bug} for a key that is not set
  std::string fill(const char* pattern) const;

 private:
  std::map<std::string, std::string> words_;
};

// The same person again: he, him, his, himself under `prefix` + "he", ...; and the name.
void set_person(Words& words, const std::string& prefix, CounterRandom& random, const std::string& not_name);

}  // namespace llmctl
