// SPDX-License-Identifier: Apache-2.0
#include "data/pipeline/stage.h"

#include <fmt/format.h>

#include <chrono>

#include "core/base/memory.h"

namespace llmctl {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kFormat = 2;  // of a stage's files: another number makes every stage anew

// Null when it is not there or not whole: a kill may have come at any point.
Json read_if_whole(const fs::path& file) {
  std::error_code ec;
  if (!fs::exists(file, ec)) return nullptr;
  return read_json(file);
}

Json list_files(const fs::path& folder, const std::vector<std::string>& names) {
  Json list = Json::array();
  for (const std::string& name : names) list.push_back(finished_file(folder, name));
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

std::vector<uint64_t> sizes_of(const fs::path& file) {
  return Columns::load(file, {"bytes"}).get("bytes").integers;
}

// Applies the verdicts of one part and counts them. `edited`: the stage changed texts and says their sizes.
void apply_part(const fs::path& file, const std::vector<std::string>& rules, bool edited, Part& part,
                Tally& all, Tally& source) {
  const Columns verdicts = Columns::load(file, {"rule"});
  const std::vector<uint64_t>& rule = verdicts.get("rule").integers;
  check(rule.size() == part.documents, Code::input, "[data] ", file.string(), " holds ", rule.size(),
        " verdicts, expected ", part.documents, "; delete it and run again");
  const std::vector<uint64_t> bytes = sizes_of(part.sizes);
  if (edited) part.sizes = file;
  const std::vector<uint64_t> left = edited ? sizes_of(part.sizes) : bytes;
  if (part.alive.empty()) part.alive.assign(part.documents, true);
  for (uint64_t d = 0; d < rule.size(); ++d) {
    if (!part.alive[d]) continue;
    for (Tally* t : {&all, &source}) {
      ++t->documents_in;
      t->bytes_in += bytes[d];
      if (rule[d] == 0) {
        ++t->kept;
        t->bytes_kept += left[d];
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

// The key of the files in a stage's folder: "" when nobody says.
std::string key_of(const fs::path& folder) {
  if (fs::exists(folder / "unfinished")) return read_file(folder / "unfinished");
  const Json manifest = read_if_whole(folder / "stage.json");
  return manifest.is_object() ? manifest["key"].get<std::string>() : "";
}

// Before anything of a stage is made: what is of another key, and what a killed run was writing, goes.
void open_stage(const fs::path& folder, const std::string& key) {
  if (key_of(folder) != key) fs::remove_all(folder);
  fs::create_directories(folder);
  write_file(folder / "unfinished", key, true);
  fs::remove(folder / "stage.json");
  fs::remove_all(folder / "scratch");
  remove_unfinished(folder);
}

const char* why_again(const Json& manifest, const Stage& stage) {
  return manifest["config"] == stage.config ? "what it reads has changed" : "its config has changed";
}

Json new_manifest(const Stage& stage, StageContext& context) {
  const auto start = Clock::now();
  fs::create_directories(context.scratch);
  const StageOutcome outcome = stage.work(context);
  fs::remove_all(context.scratch);
  Json files = outcome.files;
  Digest digest = outcome.digest;
  for (const Part& part : context.parts) {
    const Json done = context.folder.finished_part(part.number);
    check(!done.is_null(), Code::bug, "[data] ", stage.name, ": part ", part.number, " was not finished");
    for (const Json& f : done["files"]) files.push_back(f);
    digest += digest_of(std::to_string(part.number) + done["digest"].get<std::string>());
  }
  return {{"stage", stage.name},
          {"format", kFormat},
          {"key", context.folder.key()},
          {"config", stage.config},
          {"inputs", stage.inputs},
          {"rules", outcome.rules},
          {"has_texts", outcome.has_texts},
          {"has_sizes", outcome.has_sizes},
          {"extra", outcome.extra},
          {"digest", digest_of(stage.name + digest.hex()).hex()},
          {"seconds", std::chrono::duration<double>(Clock::now() - start).count()},
          {"bytes", outcome.bytes},
          {"threads", context.exec.pool->threads()},
          {"peak_memory", peak_resident_bytes()},
          {"files", files}};
}

}  // namespace

void hold_folder(const fs::path& folder) {
  const fs::path mark = folder / "unfinished";
  if (!fs::exists(mark) && fs::exists(folder / "stage.json")) write_file(mark, key_of(folder), true);
}

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
  if (!json.is_object() || json["key"] != key_ || !fault_of(folder_, json["files"]).empty()) return nullptr;
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
  const std::string fault = same ? fault_of(folder, manifest["files"]) : "";
  const bool whole = same && fault.empty();
  if (known && !same) log.warning("[data] " + name + ": " + why_again(manifest, stage) + ": done again");
  if (!fault.empty()) log.warning("[data] " + name + ": " + fault + ": it is made again");
  if (!whole) {
    for (const char* output : {"pack", "documents"}) hold_folder(run / folder_of(output));
    open_stage(folder, key);
    StageContext context{config, exec, log, parts, StageFolder(folder, key), folder / "scratch", version};
    manifest = new_manifest(stage, context);
  }
  const StageFolder done(folder, key);
  if (stage.load) stage.load(done, manifest, parts);
  if (!manifest.contains("documents_in")) {
    Tally all;
    std::vector<Tally> sources(config.sources.size());
    for (Part& part : parts)
      apply_part(done.file(part.number, "verdicts"), manifest["rules"], manifest["has_sizes"], part, all,
                 sources[part.source]);
    manifest.update(all.json());
    for (size_t s = 0; s < sources.size(); ++s)
      manifest["sources"][config.sources[s].name] = sources[s].json();
    write_file(file, manifest.dump(1) + "\n", true);
    log.line(fmt::format("{}: {} of {} documents kept, {:.1f} s", name, all.kept, all.documents_in,
                         manifest["seconds"].get<double>()));
  } else {
    Tally all, source;
    for (Part& part : parts)
      apply_part(done.file(part.number, "verdicts"), manifest["rules"], manifest["has_sizes"], part, all,
                 source);
    log.line(fmt::format("{}: done before", name));
  }
  if (manifest["has_texts"])
    for (Part& part : parts) part.records = done.file(part.number, "records");
  fs::remove(folder / "unfinished");
  state = manifest["digest"];
  return manifest;
}

}  // namespace llmctl
