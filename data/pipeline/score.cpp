// SPDX-License-Identifier: Apache-2.0
// Quality and perplexity into columns (part-N.scores), and what their thresholds drop.
#include <optional>

#include "core/base/each_index.h"
#include "data/pipeline/stages.h"
#include "data/quality/classifier.h"
#include "data/quality/ngram.h"

namespace llmctl {
namespace {

struct Scorers {
  std::optional<Classifier> classifier;
  std::optional<NgramModel> model;
  explicit Scorers(const ScoreConfig& c) {
    if (!c.classifier.empty()) classifier = Classifier::load(c.classifier);
    if (!c.perplexity.empty()) model.emplace(c.perplexity);
  }
};

struct Scores {
  double quality = 0, perplexity = 0;
};

void score_part(StageContext& context, const Scorers& scorers, const Part& part, Meter& meter) {
  const ScoreConfig& c = context.config.score;
  Verdicts verdicts(part.documents);
  verdicts.columns().add_real("quality");
  verdicts.columns().add_real("perplexity");
  for_each_batch(context.exec, part, [&](std::vector<Located>& batch) {
    std::vector<Scores> scores(batch.size());
    for_each_index(context.exec, static_cast<int64_t>(batch.size()), [&](int64_t i) {
      const std::string& text = batch[static_cast<size_t>(i)].record.text;
      Scores& s = scores[static_cast<size_t>(i)];
      if (scorers.classifier) s.quality = scorers.classifier->score(text);
      if (scorers.model) s.perplexity = scorers.model->score(text).perplexity();
    });
    for (size_t i = 0; i < batch.size(); ++i) {
      const uint64_t place = batch[i].place;
      verdicts.columns().at(1).reals[place] = scores[i].quality;
      verdicts.columns().at(2).reals[place] = scores[i].perplexity;
      if (scorers.model && c.max_perplexity > 0 && scores[i].perplexity > c.max_perplexity)
        verdicts.drop(place, 1);
      if (scorers.classifier && scores[i].quality < c.min_quality) verdicts.drop(place, 0);
    }
    meter.add(bytes_of(batch));
  });
  verdicts.finish(context.folder, part.number);
}

StageOutcome score(StageContext& context) {
  const Scorers scorers(context.config.score);
  StageOutcome outcome;
  outcome.rules = {"score.quality", "score.perplexity"};
  outcome.bytes = alive_bytes(context.parts);
  Meter meter(context.log, "scoring", "bytes", outcome.bytes);
  for (const Part& part : context.parts)
    if (context.folder.finished_part(part.number).is_null()) score_part(context, scorers, part, meter);
  return outcome;
}

}  // namespace

Stage score_stage(const PipelineConfig& config) {
  ScoreConfig c = config.score;
  Json digests = Json::array();
  for (const std::string& file : {c.classifier, c.perplexity})
    digests.push_back(file.empty() ? "" : digest_of_file(file).hex());
  return {"score", {{"score", fields_of(c).write()}, {"files", digests}}, "", score, nullptr};
}

}  // namespace llmctl
