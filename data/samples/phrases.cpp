// SPDX-License-Identifier: Apache-2.0
#include "data/samples/phrases.h"

#include <cctype>

#include "kernels/error.h"

namespace llmctl {

namespace {

constexpr const char* kGirls[] = {"Anna", "Bea",  "Clara", "Dora",  "Ella", "Fay",  "Greta", "Hana",
                                  "Ivy",  "June", "Kira",  "Lena",  "Mina", "Nora", "Olga",  "Pia",
                                  "Rosa", "Sara", "Tess",  "Uma",   "Vera", "Wren", "Yara",  "Zoe",
                                  "Amy",  "Cleo", "Edith", "Flora", "Maya", "Ruth"};
constexpr const char* kBoys[] = {"Adam", "Ben",   "Carl", "Dan",   "Eli",  "Finn", "Gus",   "Hugo",
                                 "Ian",  "Jack",  "Kai",  "Leo",   "Max",  "Ned",  "Otto",  "Paul",
                                 "Remy", "Sam",   "Tom",  "Udo",   "Vic",  "Will", "Yusuf", "Zack",
                                 "Alan", "Boris", "Emil", "Felix", "Omar", "Theo"};

}  // namespace

const char* pick(std::span<const char* const> list, CounterRandom& random) {
  return list[random.below(list.size())];
}

const std::string& Words::get(const std::string& key) const {
  const auto it = words_.find(key);
  check(it != words_.end(), Code::bug, "[corpus] pattern uses {", key, "}, which is not set");
  return it->second;
}

std::string Words::fill(const char* pattern) const {
  std::string out;
  for (const char* p = pattern; *p; ++p) {
    if (*p != '{') {
      out += *p;
      continue;
    }
    std::string key;
    for (++p; *p && *p != '}'; ++p) key += *p;
    check(*p == '}', Code::bug, "[corpus] pattern '", pattern, "' has an open {");
    const bool article = key.size() > 2 && key[1] == ':' && (key[0] == 'a' || key[0] == 'A');
    const char letter = key[0];
    if (article) key.erase(0, 2);
    const bool capital = std::isupper(static_cast<unsigned char>(key[0])) != 0;
    if (capital) key[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(key[0])));
    std::string word = get(key);
    if (capital) word[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(word[0])));
    if (article) {
      out += letter;
      out += std::string("aeiou").find(word[0]) == std::string::npos ? " " : "n ";
    }
    out += word;
  }
  return out;
}

void set_person(Words& words, const std::string& prefix, CounterRandom& random, const std::string& not_name) {
  const bool girl = random.chance(50);
  std::string name;
  do name = girl ? pick(kGirls, random) : pick(kBoys, random);
  while (name == not_name);
  words.set(prefix + "name", name);
  words.set(prefix + "he", girl ? "she" : "he");
  words.set(prefix + "him", girl ? "her" : "him");
  words.set(prefix + "his", girl ? "her" : "his");
  words.set(prefix + "child", girl ? "girl" : "boy");
}

}  // namespace llmctl
