// SPDX-License-Identifier: Apache-2.0
#include "data/dedup/shingles.h"

#include <algorithm>

#include "data/dedup/word_hash.h"
#include "data/text/simplify.h"

namespace llmctl {

Shingler::Shingler(const MinhashOptions& options) : options_(options) {}

const std::vector<uint32_t>& Shingler::shingles(std::string_view text) {
  simplify_text(text, {options_.digits_to_zero}, simple_);
  shingles_.clear();
  RollingGram gram(options_.n);
  const auto push = [&](uint64_t hash) {
    gram.push(hash);
    if (gram.full()) shingles_.push_back(static_cast<uint32_t>(gram.value() >> 32));
  };
  if (options_.unit == ShingleUnit::words) {
    for_each_word(simple_, [&](std::string_view word) { push(word_hash(word)); });
  } else {
    for (size_t at = 0; at < simple_.size();) {  // simplified text is UTF-8
      size_t end = at + 1;
      while (end < simple_.size() && (static_cast<uint8_t>(simple_[end]) & 0xC0) == 0x80) ++end;
      push(word_hash(std::string_view(simple_).substr(at, end - at)));
      at = end;
    }
  }
  if (shingles_.empty() && gram.seen() > 0) shingles_.push_back(static_cast<uint32_t>(gram.value() >> 32));
  return shingles_;
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
