// SPDX-License-Identifier: Apache-2.0
// Text to hashed n-gram features: words, word pairs, and character 3- to 5-grams inside words
// (fastText's word borders: "<word>"). The hash is our own and part of the model format: version 1.
//
// Folding, before features: ASCII lower case; zero-width characters removed; digits and signs
// that stand for letters inside a word with letters (k1ll, h@te) read as letters; letters written
// apart (k i l l) joined; runs of one letter cut to two; typographic spaces, dashes and quotes end a
// word. Other UTF-8 passes through.
//
// bits: any-isa
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llmctl {

struct FeatureShape {
  int64_t buckets = int64_t{1} << 18;  // a power of two, 2^10 to 2^24
  int char_min = 3, char_max = 5;      // 1 <= char_min <= char_max <= 8
};
// Error{input} naming `who` when a field is out of range.
void check_shape(const FeatureShape& shape, const std::string& who);

struct Feature {
  uint32_t bucket;
  float value;
};
// Sorted by bucket, each bucket once. The words' values and the characters' values each have
// squares that sum to one half (before equal buckets join).
using Features = std::vector<Feature>;

// The folded words in order; a word longer than 64 bytes comes in pieces.
std::vector<std::string> folded_words(std::string_view text);

// Features of words[begin, end).
Features features_of(const std::vector<std::string>& words, size_t begin, size_t end,
                     const FeatureShape& shape);

// 64 well-mixed bits of the bytes; splits and orders of the trainer use it too.
uint64_t text_hash(std::string_view bytes, uint64_t seed);

}  // namespace llmctl
