// SPDX-License-Identifier: Apache-2.0
#include "data/pipeline/rules.h"

#include <limits>

namespace llmctl {

Rules::Rules(const Json& filters) {
  if (filters.empty()) return;
  columns_ = {"words", "mean_word"};
  rules_ = {{"gopher.words", 0, 50, 1e5}, {"gopher.mean_word", 1, 3, 10}};
}
void Rules::annotate(std::string& text, std::span<double> signals) const {
  if (columns_.empty()) return;
  double words = 0, letters = 0;
  bool in = false;
  for (char c : text) {
    const bool space = c == ' ' || c == '\n' || c == '\t';
    if (!space) ++letters;
    if (!space && !in) ++words;
    in = !space;
  }
  signals[0] = words;
  signals[1] = words > 0 ? letters / words : 0;
}

}  // namespace llmctl
