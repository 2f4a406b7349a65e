// SPDX-License-Identifier: Apache-2.0
#include "data/pipeline/trace.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/packed/shard.h"
#include "data/pipeline/run.h"
#include "data/pipeline/stages.h"
#include "data/records/record_file.h"
#include "data/tokenizer/tokenizer.h"

namespace llmctl {
namespace {

fs::path base_of(fs::path path) {
  if (path.extension() == ".bin" || path.extension() == ".idx") path.replace_extension();
  return path;
}

int64_t document_at(const Shard& shard, int64_t offset) {
  int64_t low = 0, high = shard.documents();
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (shard.offset(middle) <= offset ? low : high) = middle;
  }
  return low;
}

Json record_json(const Record& r) {
  return {{"file", r.file},       {"number", r.number}, {"offset", r.offset},
          {"length", r.length},   {"url", r.url},       {"date", r.date},
          {"licence", r.licence}, {"source", r.source}, {"language", r.language}};
}

// The run's folder and one document of it.
class TracedDocument {
 public:
  TracedDocument(const fs::path& run, const Record& record) : record_(record), stages_(finished_stages(run)) {
    columns_ = Columns::load(file_of(run / folder_of("extract"), "columns"));
    const std::vector<uint64_t>& numbers = columns_.get("number").integers;
    const auto at = std::lower_bound(numbers.begin(), numbers.end(), record.number);
    check(at != numbers.end() && *at == record.number, Code::input, "[data] ", run.string(),
          " has no record ", record.number, " of file ", record.file, ": the shard is from another run");
    place_ = static_cast<uint64_t>(at - numbers.begin());
  }

  Json signals() const {
    Json out = Json::object();
    for (const Column& c : columns_.all())
      if (c.name != "number" && c.name != "language") out[c.name] = c.value(place_);
    return out;
  }

  Json decisions() const {
    Json out = Json::array();
    for (const fs::path& stage : stages_) {
      const Json manifest = read_json(stage / "stage.json");
      const Columns verdicts = Columns::load(file_of(stage, "verdicts"));
      const uint64_t rule = verdicts.get("rule").integers.at(place_);
      Json decision = {{"stage", manifest["stage"]}, {"rule", nullptr}};
      if (rule > 0) decision["rule"] = manifest["rules"].at(rule - 1);
      for (const Column& c : verdicts.all())
        if (c.name != "rule")
          decision[c.name] = c.whole ? Json(c.integers.at(place_)) : Json(c.reals.at(place_));
      out.push_back(std::move(decision));
    }
    return out;
  }

  // As it was packed.
  std::string text() const {
    fs::path records;
    for (const fs::path& stage : stages_)
      if (fs::exists(file_of(stage, "records"))) records = file_of(stage, "records");
    return RecordFile(records).at(place_).text;
  }

 private:
  fs::path file_of(const fs::path& stage, const char* suffix) const {
    return StageFolder(stage, "").file(record_.file, suffix);
  }

  const Record& record_;
  std::vector<fs::path> stages_;
  Columns columns_;
  uint64_t place_ = 0;
};

Json token_json(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, size_t token,
                const std::string* text) {
  const std::vector<int32_t> before(ids.begin(), ids.begin() + static_cast<int64_t>(token));
  const std::string piece = tokenizer.decode({ids[token]}, true);
  const size_t begin = tokenizer.decode(before, true).size(), end = begin + piece.size();
  Json out = {{"id", ids[token]},
              {"text", tokenizer.token_of(ids[token])},
              {"begin", begin},
              {"end", end},
              {"exact", nullptr}};
  if (text) out["exact"] = end <= text->size() && text->compare(begin, piece.size(), piece) == 0;
  return out;
}

}  // namespace

Json trace_token(const fs::path& path, uint64_t offset, const std::string& tokenizer_path) {
  const fs::path base = base_of(path);
  const Shard shard(base);
  check(offset < static_cast<uint64_t>(shard.tokens()), Code::usage, "[data] token ", offset, " of ",
        base.string(), ", which has ", shard.tokens());
  const int64_t document = document_at(shard, static_cast<int64_t>(offset));
  const size_t token = static_cast<size_t>(static_cast<int64_t>(offset) - shard.offset(document));
  const fs::path sources = base.string() + ".sources";
  check(fs::exists(sources), Code::input, "[data] ", sources.string(),
        " is missing: `data run` writes it beside a shard");
  const RecordFile records(sources);
  check(records.records() == static_cast<uint64_t>(shard.documents()), Code::input, "[data] ",
        sources.string(), " has ", records.records(), " records, the shard ", shard.documents(),
        " documents");
  const Record record = records.at(static_cast<uint64_t>(document));
  std::vector<int32_t> ids(static_cast<size_t>(shard.length(document)));
  shard.read(document, 0, ids);

  Json out = {{"shard", base.filename().string()},
              {"offset", offset},
              {"token", {{"id", ids[token]}}},
              {"document", {{"in_shard", document}, {"token", token}, {"tokens", ids.size()}}}};
  out["document"].update(record_json(record));
  out["input"] = out["signals"] = out["decisions"] = nullptr;
  const fs::path run = fs::absolute(base).parent_path().parent_path();
  std::string tokenizer = tokenizer_path;
  std::optional<std::string> text;
  if (fs::exists(run / "run.json") && fs::exists(run / folder_of("extract"))) {
    const Json input = read_json(run / "run.json")["inputs"].at(record.file);
    out["input"] = {{"path", input["path"]}, {"digest", input["digest"]}};
    const TracedDocument traced(run, record);
    out["signals"] = traced.signals();
    out["decisions"] = traced.decisions();
    text = traced.text();
    if (tokenizer.empty()) tokenizer = pipeline_config_of(run).pack.tokenizer;
  }
  if (!tokenizer.empty() && fs::exists(tokenizer))
    out["token"] = token_json(Tokenizer::load(tokenizer), ids, token, text ? &*text : nullptr);
  return out;
}

std::string trace_text(const Json& t) {
  const Json& d = t["document"];
  std::string out = fmt::format("token {} of {}: id {}", t["offset"].get<uint64_t>(),
                                t["shard"].get<std::string>(), t["token"]["id"].get<int64_t>());
  if (t["token"].contains("begin"))
    out += fmt::format(" {}, bytes {}..{} of the text", t["token"]["text"].dump(),
                       t["token"]["begin"].get<uint64_t>(), t["token"]["end"].get<uint64_t>());
  out += fmt::format("\ndocument {} of the shard, token {} of {}", d["in_shard"].get<uint64_t>(),
                     d["token"].get<uint64_t>(), d["tokens"].get<uint64_t>());
  if (!t["input"].is_null())
    out += fmt::format("\nfrom {}, record {}, bytes {} and {} more", t["input"]["path"].get<std::string>(),
                       d["number"].get<uint64_t>(), d["offset"].get<uint64_t>(), d["length"].get<uint64_t>());
  for (const char* key : {"url", "date", "licence", "source", "language"})
    if (!d[key].get<std::string>().empty()) out += fmt::format("\n{}: {}", key, d[key].get<std::string>());
  if (!t["decisions"].is_null())
    for (const Json& decision : t["decisions"])
      out += fmt::format(
          "\n{}: {}", decision["stage"].get<std::string>(),
          decision["rule"].is_null() ? "kept" : "dropped by " + decision["rule"].get<std::string>());
  if (!t["signals"].is_null())
    for (const auto& [name, value] : t["signals"].items())
      out += fmt::format("\n  {:<44} {}", name, value.dump());
  return out;
}

}  // namespace llmctl
