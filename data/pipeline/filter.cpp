// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "data/packed/pack.h"
#include "data/pipeline/predicates.h"
#include "data/pipeline/stages.h"

namespace llmctl {

Predicates::Predicates(const PipelineConfig& config)
    : recipe_(config.filters), min_score_(config.language.min_score) {
  for (const std::string& code : config.language.keep) languages_.push_back(language_number(code));
  if (!languages_.empty()) names_ = {"language.other", "language.score"};
  first_rule_ = names_.size();
  for (const Rule& rule : recipe_.rules()) names_.push_back(rule.name);
}

Columns Predicates::load(const fs::path& columns) const {
  std::vector<std::string> wanted = recipe_.columns();
  wanted.insert(wanted.end(), {"language", "language_score", "bytes"});
  return Columns::load(columns, wanted);
}

bool Predicates::fails(const Columns& columns, uint64_t row, size_t predicate) const {
  if (predicate >= first_rule_) {
    const Rule& rule = recipe_.rules()[predicate - first_rule_];
    return rule.drops(columns.get(recipe_.columns()[static_cast<size_t>(rule.column)]).value(row));
  }
  if (predicate == 1) return columns.get("language_score").value(row) < min_score_;
  const uint64_t code = columns.get("language").integers[row];
  return std::find(languages_.begin(), languages_.end(), code) == languages_.end();
}

size_t Predicates::first_failing(const Columns& columns, uint64_t row) const {
  for (size_t p = 0; p < names_.size(); ++p)
    if (fails(columns, row, p)) return p;
  return names_.size();
}

namespace {

StageOutcome filter(StageContext& context) {
  const Predicates predicates(context.config);
  Meter meter(context.log, "filtering", "documents", 0);
  for_each_index(context.exec, static_cast<int64_t>(context.parts.size()), [&](int64_t p) {
    const Part& part = context.parts[static_cast<size_t>(p)];
    const Columns columns = predicates.load(part.columns);
    Verdicts verdicts(part.documents);
    for (uint64_t d = 0; d < part.documents; ++d) {
      if (!part.alive[d]) continue;
      const size_t failed = predicates.first_failing(columns, d);
      if (failed < predicates.names().size()) verdicts.drop(d, failed);
    }
    verdicts.finish(context.folder, part.number);
    meter.add(part.documents);
  });
  StageOutcome outcome;
  outcome.rules = predicates.names();
  return outcome;
}

}  // namespace

Stage filter_stage(const PipelineConfig& config) {
  LanguageConfig language = config.language;
  return {"filter",
          {{"language", fields_of(language).write()}, {"filters", config.filters}},
          "",
          filter,
          nullptr};
}

}  // namespace llmctl
