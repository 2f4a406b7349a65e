// SPDX-License-Identifier: Apache-2.0
// The rules of a config's recipes: what they compute of a text, once, and which of them a document fails.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace llmctl {

// Kept while low <= value <= high of the column.
struct RuleLine {
  std::string name;
  size_t column = 0;
  double low = 0, high = 0;
};

class Rules {
 public:
  explicit Rules(const Json& filters);
  const std::vector<std::string>& columns() const { return columns_; }
  const std::vector<RuleLine>& rules() const { return rules_; }
  void annotate(std::string& text, std::span<double> signals) const;

 private:
  std::vector<std::string> columns_;
  std::vector<RuleLine> rules_;
};

}  // namespace llmctl
