// SPDX-License-Identifier: Apache-2.0
// Words as quality rules count them: near to spaCy's blank English tokenizer, with which the published
// thresholds were found, by rules that need one pass and no table of exceptions.
//
// A chunk is a run without white space. Off its front come marks one by one, off its end marks, contracted
// endings ('s n't 'll 're 've 'd 'm) and a full stop after a small letter, a digit or a mark; a run of dots
// is one word; titles and abbreviations of a short list keep their stop. Links and addresses stay whole.
// What is left parts at hyphens and dashes between letters, at : < > = / before a letter, at a comma between
// letters, at a full stop between a small and a capital letter, at + - * ^ between digits, at runs of dots
// and at pictorial symbols.
// `spaces` gives whole chunks, as str.split does.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace llmctl {

struct Word {
  uint64_t hash = 0;            // of its bytes: concatenation_hash
  uint32_t begin = 0, end = 0;  // bytes of the text
  uint32_t chars = 0;           // code points
  bool alpha = false;           // has a letter
  bool symbol = true;           // nothing outside the punctuation set
  bool punctuation = true;      // all of category P
  bool terminal = false;        // one terminal mark
};

enum class WordRule : uint8_t { marks, spaces };

// Appends the words of valid UTF-8 of less than 4 GiB. Linear.
void split_words(std::string_view text, WordRule rule, std::vector<Word>& words);

// Sentences among words [first, end), as spaCy's sentencizer counts: one starts at the first word that is no
// punctuation after a terminal mark. 0 for no words.
uint64_t count_sentences(const Word* first, const Word* end);

// Polynomial hash of bytes mod 2^64: hash(a + b) = hash(a) * power(bytes of b) + hash(b), so that a run of
// words hashes as the joined text does, whatever its cuts. Not for adversarial keys.
constexpr uint64_t kHashBase = 0x9E3779B97F4A7C15ull;
uint64_t hash_power(uint64_t bytes);
// Of whole strings, quick: eight bytes at a time.
uint64_t hash_bytes(std::string_view bytes);
inline uint64_t mix_hash(uint64_t h) {
  h ^= h >> 32;
  h *= 0xD6E8FEB86659FD93ull;
  h ^= h >> 32;
  h *= 0xD6E8FEB86659FD93ull;
  return h ^ h >> 32;
}

}  // namespace llmctl
