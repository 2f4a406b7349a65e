// SPDX-License-Identifier: Apache-2.0
// Verdicts of a TextClassifier in the shape of OpenAI's moderation endpoint: all 13 of its categories
// are always present, with score 0 and no applied input type where the model does not know them;
// the model's other categories follow. Flagged: any category at or above its threshold.
#pragma once

#include <string>
#include <vector>

#include "core/base/json.h"
#include "safety/classifier.h"

namespace llmctl {

struct ModerationScore {
  std::string category;
  double score = 0;
  bool flagged = false;
  bool known = false;  // the model has this category
};
struct ModerationVerdict {
  bool flagged = false;
  std::vector<ModerationScore> scores;  // OpenAI's 13 in order, then the model's others
};

// Error{input} for invalid UTF-8.
ModerationVerdict moderate(const TextClassifier& model, std::string_view text);

// {"flagged", "categories", "category_scores", "category_applied_input_types"}
Json moderation_result(const ModerationVerdict& verdict);

// {"id", "model", "results": [...]}; the id is a function of the model's digest and the text.
Json moderation_object(const TextClassifier& model, const std::string& model_name, std::string_view text);

}  // namespace llmctl
