// SPDX-License-Identifier: Apache-2.0
// Stages that change texts: repeated lines leave, personal data is replaced.
#include "core/base/each_index.h"
#include "data/dedup/lines.h"
#include "data/pipeline/stages.h"
#include "data/quality/scrub.h"

namespace llmctl {
namespace {

// Verdicts whose column 1 says how long texts are now.
Verdicts sized_verdicts(const Part& part) {
  Verdicts verdicts(part.documents);
  verdicts.columns().add_integer("bytes");
  return verdicts;
}

// A part's records anew: `edit` changes those of a batch, places of what is dropped stay, empty.
Digest rewrite(StageContext& context, const Part& part, Verdicts& sizes,
               const std::function<void(std::vector<Located>&)>& edit) {
  RecordFileWriter writer(context.folder.file(part.number, "records"), true);
  Record nothing;
  nothing.file = part.number;
  for_each_batch(context.exec, part, [&](std::vector<Located>& batch) {
    edit(batch);
    for (const Located& l : batch) {
      while (writer.records() < l.place) writer.add(nothing);
      writer.add(l.record);
      sizes.columns().at(1).integers[l.place] = l.record.text.size();
    }
  });
  while (writer.records() < part.documents) writer.add(nothing);
  return writer.commit();
}

std::string records_name(const StageContext& context, const Part& part) {
  return context.folder.file(part.number, "records").filename().string();
}

// ---------------------------------------------------------------- lines

TextPart part_of(const std::string& name) {
  return name == "line" ? TextPart::line : name == "paragraph" ? TextPart::paragraph : TextPart::sentence;
}

// `repeated` of one part, by place.
void cut_part(StageContext& context, const Part& part,
              const std::map<uint64_t, std::vector<uint32_t>>& repeated) {
  const LinesConfig& lines = context.config.dedup.lines;
  Verdicts verdicts = sized_verdicts(part);
  verdicts.columns().add_integer("removed");
  const Digest digest = rewrite(context, part, verdicts, [&](std::vector<Located>& batch) {
    for_each_index(context.exec, static_cast<int64_t>(batch.size()), [&](int64_t i) {
      Located& l = batch[static_cast<size_t>(i)];
      const auto at = repeated.find(l.place);
      if (at == repeated.end()) return;
      auto left = without_parts(l.record.text, part_of(lines.part), at->second, lines.max_removed);
      verdicts.columns().at(2).integers[l.place] = l.record.text.size() - (left ? left->size() : 0);
      if (!left || left->empty()) verdicts.drop(l.place, 0);
      l.record.text = left ? std::move(*left) : "";
    });
  });
  verdicts.finish(context.folder, part.number, digest, {records_name(context, part)});
}

StageOutcome cut_lines(StageContext& context) {
  const LinesConfig& lines = context.config.dedup.lines;
  LineDedup dedup({.folder = context.scratch,
                   .memory_bytes = static_cast<uint64_t>(context.config.dedup.memory_mb) << 20,
                   .part = part_of(lines.part),
                   .span = lines.span,
                   .min_words = lines.min_words},
                  context.exec);
  StageOutcome outcome;
  outcome.rules = {"lines.max_removed"};
  outcome.has_texts = outcome.has_sizes = true;
  outcome.bytes = alive_bytes(context.parts);
  Meter meter(context.log, "repeated lines", "bytes", outcome.bytes);
  for (const Part& part : context.parts)
    for_each_batch(context.exec, part, [&](std::vector<Located>& batch) {
      dedup.add(texts_of(part, context.config, batch));
      meter.add(bytes_of(batch));
    });
  uint64_t open = 0;  // parts come in ascending order
  std::map<uint64_t, std::vector<uint32_t>> repeated;
  const auto go_to = [&](uint64_t part) {
    for (; open < part; ++open, repeated.clear()) cut_part(context, context.parts[open], repeated);
  };
  dedup.finish([&](const RepeatedParts& r) {
    go_to(part_of_id(r.id));
    repeated[place_of_id(r.id)] = r.parts;
  });
  go_to(context.parts.size());
  return outcome;
}

// ---------------------------------------------------------------- scrub

ScrubOptions options_of(const ScrubConfig& s) {
  return {.email = s.email,
          .phone = s.phone,
          .ip = s.ip,
          .card = s.card,
          .secret = s.secret,
          .fineweb = s.fineweb};
}

StageOutcome scrub_texts(StageContext& context) {
  const ScrubOptions options = options_of(context.config.scrub);
  StageOutcome outcome;
  outcome.has_texts = outcome.has_sizes = true;
  outcome.bytes = alive_bytes(context.parts);
  Meter meter(context.log, "personal data", "bytes", outcome.bytes);
  for (const Part& part : context.parts) {
    if (!context.folder.finished_part(part.number).is_null()) continue;
    Verdicts verdicts = sized_verdicts(part);
    for (int k = 0; k < kPersonalDataKinds; ++k)
      verdicts.columns().add_integer(name_of(static_cast<PersonalData>(k)));
    const Digest digest = rewrite(context, part, verdicts, [&](std::vector<Located>& batch) {
      meter.add(bytes_of(batch));
      for_each_index(context.exec, static_cast<int64_t>(batch.size()), [&](int64_t i) {
        Located& l = batch[static_cast<size_t>(i)];
        Scrubbed clean = scrub(l.record.text, options);
        l.record.text = std::move(clean.text);
        for (size_t k = 0; k < clean.counts.size(); ++k)
          verdicts.columns().at(2 + k).integers[l.place] = clean.counts[k];
      });
    });
    verdicts.finish(context.folder, part.number, digest, {records_name(context, part)});
  }
  return outcome;
}

}  // namespace

Stage lines_stage(const PipelineConfig& config) {
  LinesConfig lines = config.dedup.lines;
  return {"lines",
          {{"priorities", exact_stage(config).config["priorities"]}, {"lines", fields_of(lines).write()}},
          "",
          cut_lines,
          nullptr};
}

Stage scrub_stage(const PipelineConfig& config) {
  ScrubConfig scrub = config.scrub;
  return {"scrub", fields_of(scrub).write(), "", scrub_texts, nullptr};
}

}  // namespace llmctl
