// SPDX-License-Identifier: Apache-2.0
#include "data/dedup/decontaminate.h"

#include "data/pipeline/stages.h"

namespace llmctl {
namespace {

StageOutcome decontaminate(StageContext& context) {
  const DecontaminateConfig& c = context.config.decontaminate;
  const EvaluationIndex index(expand_inputs(c.inputs),
                              {.n = c.ngram, .min_words = c.min_words, .max_records = c.max_records});
  StageOutcome outcome;
  outcome.rules = {"decontaminate.overlap"};
  outcome.bytes = alive_bytes(context.parts);
  outcome.extra = {
      {"records", index.records()}, {"grams", index.grams()}, {"unsearchable", index.unsearchable()}};
  Meter meter(context.log, "decontaminating", "bytes", outcome.bytes);
  for (const Part& part : context.parts) {
    if (!context.folder.finished_part(part.number).is_null()) continue;
    Verdicts verdicts(part.documents);
    Columns& columns = verdicts.columns();
    columns.add_real("overlap");
    columns.add_integer("file");
    columns.add_integer("record");
    for_each_batch(context.exec, part, [&](std::vector<Located>& batch) {
      std::vector<DedupText> texts;
      for (const Located& l : batch) texts.push_back({l.place, 0, l.record.text});
      for (const Contamination& found : index.find_all(texts, context.exec)) {
        columns.at(1).reals[found.id] = found.overlap;
        columns.at(2).integers[found.id] = found.file;
        columns.at(3).integers[found.id] = found.record;
        if (found.overlap >= c.min_overlap) verdicts.drop(found.id, 0);
      }
      meter.add(bytes_of(batch));
    });
    verdicts.finish(context.folder, part.number);
  }
  return outcome;
}

}  // namespace

Stage decontaminate_stage(const PipelineConfig& config) {
  DecontaminateConfig c = config.decontaminate;
  Json digests = Json::array();
  for (const fs::path& file : expand_inputs(c.inputs)) digests.push_back(digest_of_file(file).hex());
  return {"decontaminate",
          {{"decontaminate", fields_of(c).write()}, {"files", digests}},
          "",
          decontaminate,
          nullptr};
}

}  // namespace llmctl
