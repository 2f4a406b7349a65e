// SPDX-License-Identifier: Apache-2.0
#include "data/dedup/shingles.h"

#include <algorithm>

#include "data/dedup/word_hash.h"
#include "data/text/simplify.h"

namespace llmctl {

Shingler::Shingler(const MinhashOptions& options) : options_(options) {}

const std::vector<uint32_t>& Shingler::shingles(std::string_view text) {
  simplify_text(text, {options_.digits_to_zero}, simple_);
  options_.unit == ShingleUnit::words ? hash_words(simple_, hashes_) : hash_code_points();
  shingles_.clear();
  shingles_.reserve(hashes_.size());
  for_each_gram(hashes_, std::min<size_t>(options_.n, hashes_.size()),
                [&](uint64_t gram) { shingles_.push_back(static_cast<uint32_t>(gram >> 32)); });
  return shingles_;
}

void Shingler::hash_code_points() {
  hashes_.clear();
  for (size_t at = 0; at < simple_.size();) {  // simplified text is UTF-8
    size_t end = at + 1;
    while (end < simple_.size() && (static_cast<uint8_t>(simple_[end]) & 0xC0) == 0x80) ++end;
    hashes_.push_back(word_hash(std::string_view(simple_).substr(at, end - at)));
    at = end;
  }
}

void make_set(std::vector<uint32_t>& shingles) {
  std::sort(shingles.begin(), shingles.end());
  shingles.erase(std::unique(shingles.begin(), shingles.end()), shingles.end());
}

double jaccard(std::span<const uint32_t> a, std::span<const uint32_t> b) {
  size_t i = 0, j = 0, both = 0;
  while (i < a.size() && j < b.size()) {
    const uint32_t x = a[i], y = b[j];
    both += x == y;
    i += x <= y;
    j += y <= x;
  }
  const size_t either = a.size() + b.size() - both;
  return either == 0 ? 0 : static_cast<double>(both) / static_cast<double>(either);
}

}  // namespace llmctl
