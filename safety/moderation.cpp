// SPDX-License-Identifier: Apache-2.0
#include "safety/moderation.h"

#include <algorithm>

#include "core/base/digest.h"
#include "safety/labelled.h"

namespace llmctl {

ModerationVerdict moderate(const TextClassifier& model, std::string_view text) {
  const std::vector<double> scores = model.scores(text);
  ModerationVerdict out;
  for (const std::string& name : openai_categories()) out.scores.push_back({name, 0.0, false, false});
  for (size_t c = 0; c < scores.size(); ++c) {
    auto it = std::find_if(out.scores.begin(), out.scores.end(),
                           [&](const ModerationScore& s) { return s.category == model.categories[c]; });
    if (it == out.scores.end()) it = out.scores.insert(it, {model.categories[c], 0.0, false, false});
    it->score = scores[c];
    it->known = true;
    it->flagged = scores[c] >= model.calibration[c].threshold;
    out.flagged = out.flagged || it->flagged;
  }
  return out;
}

Json moderation_result(const ModerationVerdict& verdict) {
  Json categories = Json::object(), scores = Json::object(), types = Json::object();
  for (const ModerationScore& s : verdict.scores) {
    categories[s.category] = s.flagged;
    scores[s.category] = s.score;
    types[s.category] = s.known ? Json::array({"text"}) : Json::array();
  }
  return {{"flagged", verdict.flagged},
          {"categories", std::move(categories)},
          {"category_scores", std::move(scores)},
          {"category_applied_input_types", std::move(types)}};
}

Json moderation_object(const TextClassifier& model, const std::string& model_name, std::string_view text) {
  Json results = Json::array();
  results.push_back(moderation_result(moderate(model, text)));
  const std::string id = digest_of(model.digest() + std::string(text)).hex();
  return {{"id", "modr-" + id}, {"model", model_name}, {"results", std::move(results)}};
}

}  // namespace llmctl
