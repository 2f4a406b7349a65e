// SPDX-License-Identifier: Apache-2.0
#include "data/text/rewrite.h"

#include <algorithm>

namespace llmctl {

AlignedText::AlignedText(std::string_view whole, bool with_origins, size_t at)
    : text(whole), aligned(with_origins), end(at + whole.size()) {
  if (!aligned) return;
  origins.resize(text.size());
  for (size_t i = 0; i < text.size(); ++i) origins[i] = {at + i, at + i + 1};
}

Origin AlignedText::origin_of(size_t from, size_t to) const {
  if (from >= origins.size()) return {end, end};
  if (from >= to) return {origins[from].begin, origins[from].begin};
  Origin whole = origins[from];
  for (size_t i = from; i < to && i < origins.size(); ++i) {  // normalization may change the order of marks
    whole.begin = std::min(whole.begin, origins[i].begin);
    whole.end = std::max(whole.end, origins[i].end);
  }
  return whole;
}

void Rewrite::keep(size_t begin, size_t end) {
  next_.text.append(old_.text, begin, end - begin);
  if (!old_.aligned) return;
  const auto first = old_.origins.begin();
  next_.origins.insert(next_.origins.end(), first + static_cast<ptrdiff_t>(begin),
                       first + static_cast<ptrdiff_t>(end));
}

void Rewrite::put(std::string_view bytes, size_t begin, size_t end) {
  next_.text.append(bytes);
  if (old_.aligned) next_.origins.resize(next_.text.size(), old_.origin_of(begin, end));
}

AlignedText Rewrite::take() {
  next_.aligned = old_.aligned;
  next_.end = old_.end;
  return std::move(next_);
}

}  // namespace llmctl
