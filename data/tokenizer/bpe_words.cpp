// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/bpe_words.h"

#include <algorithm>

namespace llmctl {

namespace {

// What training takes for each place: symbols, lists of places, pairs (bpe_train.h).
constexpr uint64_t kBytesOfPlace = 28;

struct Word {
  uint64_t offset, count;
  uint32_t size;
};

}  // namespace

BpeWords::BpeWords(PieceCounter& pieces, const uint32_t (&id_of_byte)[256], uint64_t memory,
                   const fs::path& folder) {
  uint64_t places = 1;
  uint64_t words = 0;
  pieces.each([&](std::string_view piece, uint64_t) {
    places += piece.size() + 1;
    ++words;
  });
  check(places < kInside, Code::unsupported, "[tokenize] ", places - words,
        " bytes of different pieces, at most 2^32 are learned from: give fewer texts");
  if (memory > 0 && places * kBytesOfPlace > memory) folder_ = folder;
  ScratchArray<char> text(folder_);
  ScratchArray<Word> list(folder_);
  text.resize(places);
  list.resize(words);
  uint64_t at = 0, next = 0;
  pieces.each([&](std::string_view piece, uint64_t count) {
    std::copy(piece.begin(), piece.end(), text.data() + at);
    list[next++] = {at, count, static_cast<uint32_t>(piece.size())};
    at += piece.size();
  });
  std::sort(list.data(), list.data() + words, [](const Word& a, const Word& b) {
    return a.count != b.count ? a.count > b.count : a.offset < b.offset;
  });
  symbols_ = ScratchArray<uint32_t>(folder_);
  symbols_.resize(places);
  uint32_t place = 0;
  symbols_[place++] = kSeparator;
  for (size_t w = 0; w < words; ++w) {
    const Word& word = list[w];
    if (steps_.empty() || steps_.back().second != static_cast<int64_t>(word.count))
      steps_.emplace_back(place, static_cast<int64_t>(word.count));
    for (uint32_t i = 0; i < word.size; ++i)
      symbols_[place++] = id_of_byte[static_cast<uint8_t>(text[word.offset + i])];
    symbols_[place++] = kSeparator;
  }
}

void BpeWords::Counts::seek(uint32_t place) {
  const auto after = std::upper_bound(steps_->begin(), steps_->end(), place,
                                      [](uint32_t p, const auto& step) { return p < step.first; });
  step_ = static_cast<size_t>(after - steps_->begin());
  if (step_ > 0) --step_;
}

}  // namespace llmctl
