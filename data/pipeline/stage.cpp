// SPDX-License-Identifier: Apache-2.0
#include "data/pipeline/stage.h"

#include <fmt/format.h>

#include <chrono>

#include "core/base/memory.h"

namespace llmctl {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kFormat = 1;  // of a stage's files: another number makes every stage anew

// Null when it is not there or not whole: a kill may have come at any point.
Json read_if_whole(const fs::path& file) {
  std::error_code ec;
  if (!fs::exists(file, ec)) return nullptr;
  return read_json(file);
}

bool all_there(const fs::path& folder, const Json& files) {
  for (const Json& f : files) {
    std::error_code ec;
    const auto bytes = fs::file_size(folder / f["name"].get<std::string>(), ec);
    if (ec || bytes != f["bytes"].get<uint64_t>()) return false;
  }
  return true;
}

Json list_files(const fs::path& folder, const std::vector<std::string>& names) {
  Json list = Json::array();
  for (const std::string& name : names)
    list.push_back({{"name", name}, {"bytes", fs::file_size(folder / name)}});
  return list;
}

struct Tally {
  uint64_t documents_in = 0, bytes_in = 0, kept = 0, bytes_kept = 0;
  std::map<std::string, uint64_t> dropped;
  Json json() const {
    return {{"documents_in", documents_in},
            {"kept", kept},
            {"bytes_in", bytes_in},
            {"bytes_kept", bytes_kept},
            {"dropped", dropped.empty() ? Json::object() : Json(dropped)}};
  }
};

// Applies the verdicts of one part and counts them.
void apply_part(const fs::path& file, const std::vector<std::string>& rules, Part& part, Tally& all,
                Tally& source) {
  const Columns verdicts = Columns::load(file, {"rule"});
  const std::vector<uint64_t>& rule = verdicts.get("rule").integers;
  check(rule.size() == part.documents, Code::input, "[data] ", file.string(), " holds ", rule.size(),
        " verdicts, expected ", part.documents, "; delete it and run again");
  const Columns sizes = Columns::load(part.columns, {"bytes"});
  const std::vector<uint64_t>& bytes = sizes.get("bytes").integers;
  if (part.alive.empty()) part.alive.assign(part.documents, true);
  for (uint64_t d = 0; d < rule.size(); ++d) {
    if (!part.alive[d]) continue;
    for (Tally* t : {&all, &source}) {
      ++t->documents_in;
      t->bytes_in += bytes[d];
      if (rule[d] == 0) {
        ++t->kept;
        t->bytes_kept += bytes[d];
        continue;
      }
      check(rule[d] <= rules.size(), Code::input, "[data] ", file.string(), ": rule ", rule[d], " of ",
            rules.size());
      ++t->dropped[rules[rule[d] - 1]];
    }
    part.alive[d] = rule[d] == 0;
  }
}

// What a killed run was writing.
void remove_unfinished(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.') && name.ends_with(".tmp")) found.push_back(entry.path());
  }
  for (const fs::path& file : found) fs::remove(file);
}

const char* why_again(const Json& manifest, const Stage& stage) {
  return manifest["config"] == stage.config ? "what it reads has changed" : "its config has changed";
}

Json new_manifest(const Stage& stage, StageContext& context) {
  const auto start = Clock::now();
  fs::create_directories(context.scratch);
  const StageOutcome outcome = stage.work(context);
  fs::remove_all(context.scratch);
  std::vector<std::string> files = outcome.files;
  Digest digest = outcome.digest;
  for (const Part& part : context.parts) {
    const Json done = context.folder.finished_part(part.number);
    check(!done.is_null(), Code::bug, "[data] ", stage.name, ": part ", part.number, " was not finished");
    for (const Json& f : done["files"]) files.push_back(f["name"]);
    digest += digest_of(std::to_string(part.number) + done["digest"].get<std::string>());
  }
  return {{"stage", stage.name},
          {"format", kFormat},
          {"key", context.folder.key()},
          {"config", stage.config},
          {"inputs", stage.inputs},
          {"rules", outcome.rules},
          {"has_texts", outcome.has_texts},
          {"extra", outcome.extra},
          {"digest", digest_of(stage.name + digest.hex()).hex()},
          {"seconds", std::chrono::duration<double>(Clock::now() - start).count()},
          {"bytes", outcome.bytes},
          {"threads", context.exec.pool->threads()},
          {"peak_memory", peak_resident_bytes()},
          {"files", list_files(context.folder.path(), files)}};
}

}  // namespace

std::string folder_of(const std::string& stage) {
  int number = 1;
  for (const char* name :
       {"extract", "filter", "exact", "minhash", "lines", "decontaminate", "score", "scrub", "mix"}) {
    if (stage == name) break;
    ++number;
  }
  return fmt::format("{:02}-{}", number, stage);  // 10: what is written in the end
}

fs::path StageFolder::file(uint32_t part, const char* suffix) const {
  return folder_ / fmt::format("part-{:05}.{}", part, suffix);
}

Json StageFolder::finished_part(uint32_t part) const {
  Json json = read_if_whole(file(part, "json"));
  if (!json.is_object() || json["key"] != key_ || !all_there(folder_, json["files"])) return nullptr;
  return json;
}

void StageFolder::finish_part(uint32_t part, Json counts, const std::vector<std::string>& files) const {
  counts["key"] = key_;
  counts["files"] = list_files(folder_, files);
  write_file(file(part, "json"), counts.dump(1) + "\n", true);
}

void Verdicts::finish(const StageFolder& folder, uint32_t part, Digest digest,
                      std::vector<std::string> made) const {
  const fs::path file = folder.file(part, "verdicts");
  digest += columns_.save(file, true);
  made.push_back(file.filename().string());
  folder.finish_part(part, {{"digest", digest.hex()}}, made);
}

Json run_stage(const Stage& stage, const fs::path& run, const PipelineConfig& config, const kn::Exec& exec,
               Log& log, std::vector<Part>& parts, std::string& state, const std::string& version) {
  const std::string name = folder_of(stage.name);
  const std::string key =
      digest_of(fmt::format("{}|{}|{}|{}", kFormat, stage.name, stage.config.dump(), state)).hex();
  const fs::path folder = run / name, file = folder / "stage.json";
  Json manifest = read_if_whole(file);
  const bool known = manifest.is_object();
  const bool same = known && manifest["key"] == key && manifest["inputs"] == stage.inputs;
  const bool whole = same && all_there(folder, manifest["files"]);
  if (known && !same) log.warning("[data] " + name + ": " + why_again(manifest, stage) + ": done again");
  if (same && !whole) log.warning("[data] " + name + ": a file of it is missing or cut off: done again");
  if (!whole) {
    fs::remove(file);  // before anything it speaks of changes
    fs::create_directories(folder);
    fs::remove_all(folder / "scratch");
    remove_unfinished(folder);
    StageContext context{config, exec, log, parts, StageFolder(folder, key), folder / "scratch", version};
    manifest = new_manifest(stage, context);
  }
  const StageFolder done(folder, key);
  if (stage.load) stage.load(done, manifest, parts);
  if (!manifest.contains("documents_in")) {
    Tally all;
    std::vector<Tally> sources(config.sources.size());
    for (Part& part : parts)
      apply_part(done.file(part.number, "verdicts"), manifest["rules"], part, all, sources[part.source]);
    manifest.update(all.json());
    for (size_t s = 0; s < sources.size(); ++s)
      manifest["sources"][config.sources[s].name] = sources[s].json();
    write_file(file, manifest.dump(1) + "\n", true);
    log.line(fmt::format("{}: {} of {} documents kept, {:.1f} s", name, all.kept, all.documents_in,
                         manifest["seconds"].get<double>()));
  } else {
    Tally all, source;
    for (Part& part : parts)
      apply_part(done.file(part.number, "verdicts"), manifest["rules"], part, all, source);
    log.line(fmt::format("{}: done before", name));
  }
  if (manifest["has_texts"])
    for (Part& part : parts) part.records = done.file(part.number, "records");
  state = manifest["digest"];
  return manifest;
}

}  // namespace llmctl
