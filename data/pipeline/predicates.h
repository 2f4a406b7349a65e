// SPDX-License-Identifier: Apache-2.0
// Which documents a config keeps, by its columns alone: what `filter` drops, and what moving a threshold
// would do.
#pragma once

#include <string>
#include <vector>

#include "data/pipeline/config.h"
#include "data/quality/recipe.h"
#include "data/records/columns.h"

namespace llmctl {

class Predicates {
 public:
  explicit Predicates(const PipelineConfig& config);
  // In the order in which they are asked: the first that fails is the reason.
  const std::vector<std::string>& names() const { return names_; }
  // The columns of a part that they read, and `bytes`.
  Columns load(const fs::path& columns) const;
  bool fails(const Columns& columns, uint64_t row, size_t predicate) const;
  size_t first_failing(const Columns& columns, uint64_t row) const;  // names().size(): none
  // The rule behind a predicate; null for those of language.
  const Rule* rule(size_t predicate) const {
    return predicate < first_rule_ ? nullptr : &recipe_.rules()[predicate - first_rule_];
  }
  const Recipe& recipe() const { return recipe_; }

 private:
  Recipe recipe_;
  std::vector<uint64_t> languages_;
  double min_score_;
  std::vector<std::string> names_;
  size_t first_rule_ = 0;
};

}  // namespace llmctl
