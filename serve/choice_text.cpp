// SPDX-License-Identifier: Apache-2.0
#include "serve/choice_text.h"

#include <algorithm>
#include <utility>

namespace llmctl::serve {

ChoiceText::ChoiceText(const Tokenizer& tokenizer, std::vector<std::string> stops, int min_tokens)
    : decoder_(tokenizer), stops_(std::move(stops)), min_tokens_(min_tokens) {
  for (const auto& stop : stops_) longest_stop_ = std::max(longest_stop_, stop.size());
}

void ChoiceText::prime(const std::vector<int32_t>& prompt) {
  for (const int32_t id : prompt) decoder_.push(id);
}

void ChoiceText::append(const std::string& text) {
  text_ += text;
  for (const char c : text) code_points_ += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

void ChoiceText::push(const TokenOut& token, bool hidden) {
  if (stopped_ || finished_) return;
  Held held;
  held.shown = {token, code_points_, token.from_prompt && held_.empty(), hidden};
  held.begin = text_.size();
  if (!hidden) append(decoder_.push(token.id));
  held.end = text_.size();
  held_.push_back(std::move(held));
  if (!token.from_prompt) ++generated_;
  if (token.from_prompt || generated_ <= min_tokens_)
    search_from_ = text_.size();
  else
    look_for_stop(held_.back().begin);
}

void ChoiceText::look_for_stop(size_t from) {
  if (stops_.empty()) return;
  from = std::max(search_from_, from > longest_stop_ ? from - longest_stop_ : 0);
  size_t cut = std::string::npos;
  for (const auto& stop : stops_) cut = std::min(cut, text_.find(stop, from));
  if (cut == std::string::npos) return;
  stopped_ = true;
  text_.resize(cut);
}

void ChoiceText::finish() {
  if (stopped_ || finished_) return;
  const size_t before = text_.size();
  append(decoder_.finish());
  look_for_stop(before);
  finished_ = true;
}

// Bytes of text_ that no stop string can still claim.
size_t ChoiceText::certain() const {
  if (stopped_ || finished_) return text_.size();
  size_t hold = 0;
  for (const auto& stop : stops_) {
    size_t n = std::min(stop.size() - 1, text_.size() - std::min(search_from_, text_.size()));
    while (n > hold && text_.compare(text_.size() - n, n, stop, 0, n) != 0) --n;
    hold = std::max(hold, n);
  }
  return text_.size() - hold;
}

ChoiceText::Piece ChoiceText::take() {
  Piece piece;
  const size_t limit = certain();
  piece.text = text_.substr(released_, limit - released_);
  released_ = limit;
  for (; next_held_ < held_.size(); ++next_held_) {
    Held& held = held_[next_held_];
    // After a stop string, a token counts when some of its text is before the cut.
    const bool shown = stopped_ ? held.begin < limit : finished_ || held.end <= limit;
    if (!shown) break;
    piece.tokens.push_back(std::move(held.shown));
  }
  return piece;
}

}  // namespace llmctl::serve
