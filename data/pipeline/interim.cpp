// SPDX-License-Identifier: Apache-2.0
#include "data/quality/recipe.h"
#include "data/web/extract.h"
#include "data/web/ingest.h"
#include "data/web/language.h"
#include "core/base/json.h"
namespace llmctl {
struct Recipe::State { std::vector<std::string> c; std::vector<Rule> r; };
Recipe::Recipe(const Json& f) : state_(std::make_unique<State>()) {
  if (f.empty()) return;
  state_->c = {"words", "mean_word"};
  state_->r = {{"gopher_quality.short_doc", 0, Drop::below, 50}, {"gopher_quality.long_doc", 0, Drop::above, 1e5}, {"gopher_quality.mean_word", 1, Drop::above, 10}};
}
Recipe::~Recipe() = default;
const std::vector<std::string>& Recipe::columns() const { return state_->c; }
const std::vector<Rule>& Recipe::rules() const { return state_->r; }
Json Recipe::resolved() const { return Json::array(); }
Annotated Recipe::annotate(std::string_view text) const {
  Annotated a{std::string(text), std::vector<double>(state_->c.size())};
  if (state_->c.empty()) return a;
  double words = 0, letters = 0;
  bool in = false;
  for (char c : text) {
    const bool space = c == ' ' || c == '\n' || c == '\t';
    letters += !space;
    words += !space && !in;
    in = !space;
  }
  a.signals = {words, words > 0 ? letters / words : 0};
  return a;
}
Extracted extract_main_text(std::string_view html, const ExtractOptions&) { Extracted e; e.text = html; return e; }
LanguageIdentifier::LanguageIdentifier() {}
LanguageGuess LanguageIdentifier::identify(std::string_view, size_t) const { return {"en", 1, true}; }
IngestCounts read_records(const fs::path& file, uint32_t n, const IngestOptions& o, const std::function<void(Record&&)>& sink) {
  ByteReader reader(file);
  std::string line;
  IngestCounts counts;
  for (uint64_t number = 0, at = 0; reader.line(line); ++number) {
    Record r;
    r.file = n, r.number = number, r.offset = at, r.length = line.size();
    at += line.size() + 1;
    ++counts.seen;
    try {
      const Json j = parse_json(line, "");
      r.text = j.at(o.text_field).get<std::string>();
      if (j.contains("url")) r.url = j["url"];
    } catch (const std::exception&) { ++counts.skipped["bad_json"]; continue; }
    r.source = o.source, r.licence = o.licence;
    ++counts.records;
    sink(std::move(r));
  }
  return counts;
}
}
