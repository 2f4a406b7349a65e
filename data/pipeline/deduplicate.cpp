// SPDX-License-Identifier: Apache-2.0
// Whole documents: exact copies, and near copies by MinHash.
#include "data/dedup/exact.h"
#include "data/dedup/minhash.h"
#include "data/packed/pack.h"
#include "data/pipeline/stages.h"

namespace llmctl {

std::vector<DedupText> texts_of(const Part& part, const PipelineConfig& config,
                                const std::vector<Located>& batch) {
  std::vector<DedupText> texts;
  texts.reserve(batch.size());
  for (const Located& l : batch)
    texts.push_back({place_id(part.number, l.place),
                     static_cast<uint32_t>(config.sources[part.source].priority), l.record.text});
  return texts;
}

namespace {

// Verdicts come in ascending order of id: one part's file after another.
class ClusterVerdicts {
 public:
  explicit ClusterVerdicts(StageContext& context) : context_(context) {}
  void add(const DedupVerdict& v) {
    advance(part_of_id(v.id));
    const uint64_t place = place_of_id(v.id);
    if (!v.survives()) verdicts_->drop(place, 0);
    Columns& c = verdicts_->columns();
    c.at(1).integers[place] = v.survivor;
    c.at(2).integers[place] = v.cluster_size;
    c.at(3).reals[place] = static_cast<double>(v.similarity);
  }
  void finish() {
    advance(context_.parts.size() - 1);
    verdicts_->finish(context_.folder, static_cast<uint32_t>(part_));
  }

 private:
  void open() {
    verdicts_.emplace(context_.parts[part_].documents);
    verdicts_->columns().add_integer("survivor");
    verdicts_->columns().add_integer("cluster");
    verdicts_->columns().add_real("similarity");
  }
  void advance(uint64_t part) {
    if (!verdicts_) open();
    for (; part_ < part; ++part_, open()) verdicts_->finish(context_.folder, static_cast<uint32_t>(part_));
  }

  StageContext& context_;
  uint64_t part_ = 0;
  std::optional<Verdicts> verdicts_;
};

uint64_t memory_of(const PipelineConfig& config) {
  return static_cast<uint64_t>(config.dedup.memory_mb) << 20;
}

StageOutcome exact(StageContext& context) {
  ExactDedup dedup({.folder = context.scratch, .memory_bytes = memory_of(context.config)}, context.exec);
  StageOutcome outcome;
  outcome.rules = {"exact.copy"};
  outcome.bytes = alive_bytes(context.parts);
  Meter meter(context.log, "exact copies", "bytes", outcome.bytes);
  for (const Part& part : context.parts)
    for_each_batch(context.exec, part, [&](std::vector<Located>& batch) {
      dedup.add(texts_of(part, context.config, batch));
      meter.add(bytes_of(batch));
    });
  ClusterVerdicts verdicts(context);
  dedup.finish([&](const DedupVerdict& v) { verdicts.add(v); });
  verdicts.finish();
  return outcome;
}

MinhashOptions options_of(const MinHashConfig& m) {
  return {.n = static_cast<uint32_t>(m.words),
          .bands = static_cast<uint32_t>(m.bands),
          .rows = static_cast<uint32_t>(m.rows),
          .threshold = m.threshold,
          .seed = m.seed};
}

// Signatures are kept a part at a time: a killed run goes on with the parts that are missing.
void write_signatures(StageContext& context, const Part& part, const fs::path& file, Meter& meter) {
  MinhashWriter writer(file, options_of(context.config.dedup.minhash), context.exec, true);
  for_each_batch(context.exec, part, [&](std::vector<Located>& batch) {
    writer.add(texts_of(part, context.config, batch));
    meter.add(bytes_of(batch));
  });
  writer.commit();
  write_file(context.folder.file(part.number, "signed"), context.folder.key(), true);
}

StageOutcome minhash(StageContext& context) {
  StageOutcome outcome;
  outcome.rules = {"minhash.copy"};
  outcome.bytes = alive_bytes(context.parts);
  std::vector<fs::path> files;
  {
    Meter meter(context.log, "MinHash signatures", "bytes", outcome.bytes);
    for (const Part& part : context.parts) {
      files.push_back(context.folder.file(part.number, "minhash"));
      const fs::path done = context.folder.file(part.number, "signed");
      if (fs::exists(files.back()) && fs::exists(done) && read_file(done) == context.folder.key()) continue;
      write_signatures(context, part, files.back(), meter);
    }
  }
  ClusterVerdicts verdicts(context);
  const MinhashStats s =
      minhash_clusters(files, options_of(context.config.dedup.minhash),
                       {.folder = context.scratch, .memory_bytes = memory_of(context.config)}, context.exec,
                       [&](const DedupVerdict& v) { verdicts.add(v); });
  verdicts.finish();
  outcome.extra = {{"candidates", s.candidates},
                   {"edges", s.edges},
                   {"clusters", s.clusters},
                   {"largest_cluster", s.largest_cluster},
                   {"spilled_bytes", s.spilled_bytes}};
  // Verdicts say it all from here on.
  for (const Part& part : context.parts)
    for (const char* suffix : {"signed", "minhash"}) fs::remove(context.folder.file(part.number, suffix));
  return outcome;
}

}  // namespace

uint64_t alive_bytes(const std::vector<Part>& parts) {
  uint64_t bytes = 0;
  for (const Part& part : parts) {
    const Columns columns = Columns::load(part.sizes, {"bytes"});
    const std::vector<uint64_t>& sizes = columns.get("bytes").integers;
    for (uint64_t d = 0; d < part.documents; ++d) bytes += part.alive[d] ? sizes[d] : 0;
  }
  return bytes;
}

Stage exact_stage(const PipelineConfig& config) {
  Json priorities = Json::array();
  for (const SourceConfig& s : config.sources) priorities.push_back(s.priority);
  return {"exact", {{"priorities", priorities}}, "", exact, nullptr};
}

Stage minhash_stage(const PipelineConfig& config) {
  MinHashConfig m = config.dedup.minhash;
  return {"minhash",
          {{"priorities", exact_stage(config).config["priorities"]}, {"minhash", fields_of(m).write()}},
          "",
          minhash,
          nullptr};
}

}  // namespace llmctl
