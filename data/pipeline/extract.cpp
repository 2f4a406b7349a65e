// SPDX-License-Identifier: Apache-2.0
#include "data/web/extract.h"

#include <optional>

#include "data/packed/pack.h"
#include "data/pipeline/stages.h"
#include "data/quality/presets.h"
#include "data/web/ingest.h"
#include "data/web/language.h"

namespace llmctl {
namespace {

const std::vector<std::string> kRules = {"extract.no_text", "extract.too_large", "extract.too_many_nodes",
                                         "extract.too_many_attributes", "extract.refused"};

// What the parts have in common. Threads: const.
struct Extraction {
  Recipe recipe;
  ExtractOptions html;
  std::optional<LanguageIdentifier> languages;

  explicit Extraction(const PipelineConfig& config) : recipe(config.filters) {
    const ExtractConfig& e = config.extract;
    html = {.max_bytes = e.max_html_bytes,
            .max_depth = e.max_depth,
            .max_nodes = e.max_nodes,
            .max_attributes = e.max_attributes,
            .max_cells = e.max_cells,
            .markdown = e.markdown,
            .keep_all = e.keep_all};
    if (!config.language.keep.empty()) languages.emplace();
  }
};

struct Work {
  Record record;
  uint64_t rule = 0;  // 1 + number in kRules
  double language_score = 0;
  std::vector<double> signals;
};

uint64_t rule_of(const std::string& refused) {
  for (size_t r = 0; r < kRules.size(); ++r)
    if (kRules[r] == "extract." + refused) return r + 1;
  return kRules.size();
}

void work_on(const Extraction& extraction, Work& w) {
  Record& r = w.record;
  if (r.kind == RecordKind::html) {
    Extracted page = extract_main_text(r.text, extraction.html);
    r.text = std::move(page.text);
    if (r.date.empty()) r.date = page.date;
    if (r.licence.empty()) r.licence = page.licence;
    if (page.refused) w.rule = rule_of(page.refused);
  }
  if (w.rule == 0 && r.text.find_first_not_of(" \t\r\n") == std::string::npos) w.rule = rule_of("no_text");
  w.signals.resize(extraction.recipe.columns().size());
  if (w.rule != 0) return r.text.clear();
  if (extraction.languages) {
    const LanguageGuess guess = extraction.languages->identify(r.text);
    r.language = guess.code;
    w.language_score = guess.score;
  }
  Annotated annotated = extraction.recipe.annotate(r.text);
  r.text = std::move(annotated.text);
  w.signals = std::move(annotated.signals);
}

// One part: records in, in batches that threads share when `exec` is given.
class PartExtraction {
 public:
  PartExtraction(const Extraction& extraction, StageContext& context, const Part& part, const kn::Exec* exec,
                 Meter& meter)
      : extraction_(extraction),
        context_(context),
        part_(part),
        exec_(exec),
        meter_(meter),
        writer_(context.folder.file(part.number, "records"), true) {
    columns_.add_integer("number");
    columns_.add_integer("bytes");
    columns_.add_integer("language");
    columns_.add_real("language_score");
    for (const std::string& name : extraction.recipe.columns()) columns_.add_real(name);
    verdicts_.add_integer("rule");
  }

  void run() {
    const SourceConfig& source = context_.config.sources[part_.source];
    const IngestOptions options{.format = source.format,
                                .text_field = source.field,
                                .max_record_bytes = context_.config.extract.max_record_bytes,
                                .source = source.name,
                                .licence = source.licence};
    const IngestCounts counts = read_records(part_.input, part_.number, options, [&](Record&& r) {
      waiting_bytes_ += r.text.size();
      waiting_.push_back({std::move(r)});
      if (waiting_bytes_ >= kBatchBytes || waiting_.size() >= kBatch) flush();
    });
    flush();
    finish(counts);
  }

 private:
  static constexpr uint64_t kBatchBytes = uint64_t{4} << 20;
  static constexpr size_t kBatch = 4096;

  void flush() {
    if (waiting_.empty()) return;
    const auto n = static_cast<int64_t>(waiting_.size());
    const auto body = [&](int64_t i) { work_on(extraction_, waiting_[static_cast<size_t>(i)]); };
    if (exec_)
      for_each_index(*exec_, n, body);
    else
      for (int64_t i = 0; i < n; ++i) body(i);
    uint64_t row = columns_.rows();
    columns_.resize(row + waiting_.size());
    verdicts_.resize(row + waiting_.size());
    for (Work& w : waiting_) write(row++, w);
    advance(waiting_.back().record.offset);
    waiting_.clear();
    waiting_bytes_ = 0;
  }

  void write(uint64_t row, const Work& w) {
    columns_.at(0).integers[row] = w.record.number;
    columns_.at(1).integers[row] = w.record.text.size();
    columns_.at(2).integers[row] = language_number(w.record.language);
    columns_.at(3).reals[row] = w.language_score;
    for (size_t s = 0; s < w.signals.size(); ++s) columns_.at(4 + s).reals[row] = w.signals[s];
    verdicts_.at(0).integers[row] = w.rule;
    writer_.add(w.record);
  }

  // Offsets of what is unpacked may lie behind the end of the file.
  void advance(uint64_t offset) {
    const uint64_t now = std::max(told_, std::min(offset, part_.input_bytes));
    meter_.add(now - told_);
    told_ = now;
  }

  void finish(const IngestCounts& counts) {
    advance(part_.input_bytes);
    const StageFolder& folder = context_.folder;
    const Digest records = writer_.commit();
    const Digest columns = columns_.save(folder.file(part_.number, "columns"), true);
    verdicts_.save(folder.file(part_.number, "verdicts"), true);
    Json json = {
        {"input", part_.input_digest.hex()}, {"documents", writer_.records()}, {"seen", counts.seen}};
    json["skipped"] = counts.skipped.empty() ? Json::object() : Json(counts.skipped);
    json["repaired"] = counts.repaired.empty() ? Json::object() : Json(counts.repaired);
    json["lost_bytes"] = counts.lost_bytes;
    json["digest"] = digest_of(records.hex() + columns.hex()).hex();
    std::vector<std::string> files;
    for (const char* suffix : {"records", "columns", "verdicts"})
      files.push_back(folder.file(part_.number, suffix).filename().string());
    folder.finish_part(part_.number, std::move(json), files);
  }

  const Extraction& extraction_;
  StageContext& context_;
  const Part& part_;
  const kn::Exec* exec_;
  Meter& meter_;
  uint64_t told_ = 0;
  RecordFileWriter writer_;
  Columns columns_, verdicts_;
  std::vector<Work> waiting_;
  uint64_t waiting_bytes_ = 0;
};

bool is_done(const StageFolder& folder, const Part& part) {
  const Json done = folder.finished_part(part.number);
  return !done.is_null() && done["input"] == part.input_digest.hex();
}

StageOutcome extract(StageContext& context) {
  const Extraction extraction(context.config);
  std::vector<size_t> open;
  uint64_t total = 0, bytes = 0;
  for (const Part& part : context.parts) {
    bytes += part.input_bytes;
    if (is_done(context.folder, part)) continue;
    open.push_back(part.number);
    total += part.input_bytes;
  }
  if (open.size() < context.parts.size() && !open.empty())
    context.log.line("extract: " + std::to_string(context.parts.size() - open.size()) + " of " +
                     std::to_string(context.parts.size()) + " files were done before");
  Meter meter(context.log, "extracting", "bytes", total);
  const auto one = [&](size_t i, const kn::Exec* inner) {
    PartExtraction(extraction, context, context.parts[open[i]], inner, meter).run();
  };
  // A file a thread while there are many, threads within a file otherwise: the same bytes.
  const size_t threads = static_cast<size_t>(context.exec.pool->threads());
  const size_t together = open.size() / threads * threads;
  for_each_index(context.exec, static_cast<int64_t>(together),
                 [&](int64_t i) { one(static_cast<size_t>(i), nullptr); });
  for (size_t i = together; i < open.size(); ++i) one(i, &context.exec);
  StageOutcome outcome;
  outcome.rules = kRules;
  outcome.has_texts = true;
  outcome.bytes = bytes;
  std::map<std::string, uint64_t> skipped, repaired;
  uint64_t lost = 0;
  for (const Part& part : context.parts) {
    const Json done = context.folder.finished_part(part.number);
    check(!done.is_null(), Code::bug, "[data] part ", part.number, " is not done");
    for (const auto& [name, n] : done["skipped"].items()) skipped[name] += n.get<uint64_t>();
    for (const auto& [name, n] : done["repaired"].items()) repaired[name] += n.get<uint64_t>();
    lost += done["lost_bytes"].get<uint64_t>();
  }
  outcome.extra = {{"skipped", skipped.empty() ? Json::object() : Json(skipped)},
                   {"repaired", repaired.empty() ? Json::object() : Json(repaired)},
                   {"lost_bytes", lost}};
  return outcome;
}

void load(const StageFolder& folder, const Json&, std::vector<Part>& parts) {
  for (Part& part : parts) {
    const Json done = folder.finished_part(part.number);
    check(!done.is_null(), Code::input, "[data] ", folder.file(part.number, "json").string(),
          " is missing; run again");
    part.documents = done["documents"];
    part.records = folder.file(part.number, "records");
    part.columns = part.sizes = folder.file(part.number, "columns");
  }
}

}  // namespace

uint64_t language_number(const std::string& code) {
  uint64_t n = 0;
  for (size_t i = 0; i < code.size() && i < 8; ++i) n |= uint64_t{static_cast<uint8_t>(code[i])} << (8 * i);
  return n;
}
std::string language_text(uint64_t number) {
  std::string code;
  for (; number != 0; number >>= 8) code += static_cast<char>(number & 255);
  return code;
}

// What annotate() depends on: thresholds are asked of the columns later.
static Json annotation_of(const Recipe& recipe) {
  Json filters = recipe.resolved();
  for (Json& filter : filters)
    for (const Preset* preset : find_presets(filter["preset"].get<std::string>()))
      for (const PresetRule& rule : preset->rules)
        if (rule.argument) filter.erase(rule.argument);
  return {{"filters", filters}, {"columns", recipe.columns()}};
}

Stage extract_stage(const PipelineConfig& config) {
  PipelineConfig copy = config;
  Json sources = Json::array();
  for (const SourceConfig& s : config.sources)
    sources.push_back({{"name", s.name}, {"licence", s.licence}, {"format", s.format}, {"field", s.field}});
  return {"extract",
          {{"sources", sources},
           {"extract", fields_of(copy.extract).write()},
           {"languages", !config.language.keep.empty()},
           {"annotation", annotation_of(Recipe(config.filters))}},
          "",
          extract,
          load};
}

}  // namespace llmctl
