// SPDX-License-Identifier: Apache-2.0
#include "data/pipeline/run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>

#include "data/pipeline/stages.h"
#include "data/text/json_fields.h"

namespace llmctl {
namespace {

// Two runs in one folder would undo each other's work.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder) {
    fd_ = ::open((folder / ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    check(fd_ >= 0, Code::io, "[data] ", folder.string(), ": cannot write to it");
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      ::close(fd_);
      throw Error(Code::usage,
                  "[data] another run is at work in " + folder.string() + "; wait for it or end it");
    }
  }
  ~FolderLock() { ::close(fd_); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

void open_folder(const fs::path& folder) {
  std::error_code ec;
  const bool used = fs::exists(folder, ec) && !fs::is_empty(folder, ec);
  check(!used || fs::exists(folder / "run.json") || fs::exists(folder / ".lock"), Code::usage, "[data] ",
        folder.string(), " is there and holds no run; name another output");
  fs::create_directories(folder, ec);
  check(!ec, Code::io, "[data] ", folder.string(), ": cannot create: ", ec.message());
}

// A run has one output: what an earlier config of it made goes.
void remove_other_output(const fs::path& folder, const std::string& output, Log& log) {
  const fs::path other = folder / folder_of(output == "pack" ? "documents" : "pack");
  if (!fs::exists(other)) return;
  log.warning("[data] " + other.filename().string() + " is of an earlier config: it is removed");
  fs::remove_all(other);
}

void tell(PipelineResult& result, const Stage& stage, const Json& manifest) {
  const std::string name = folder_of(stage.name);
  if (stage.name == "extract") {
    result.documents_in = manifest["documents_in"];
    result.skipped = manifest["extra"]["skipped"].get<std::map<std::string, uint64_t>>();
  }
  result.documents_out = manifest["kept"];
  for (const auto& [rule, n] : manifest["dropped"].items()) result.dropped[rule] += n.get<uint64_t>();
  result.stages.push_back({{"name", stage.name},
                           {"folder", name},
                           {"documents_in", manifest["documents_in"]},
                           {"kept", manifest["kept"]},
                           {"seconds", manifest["seconds"]}});
  if (stage.name == "pack" || stage.name == "documents") {
    result.output = manifest["extra"];
    result.output["folder"] = name;
    result.digest = stage.name == "pack" ? manifest["extra"]["digest"] : manifest["digest"];
  }
}

}  // namespace

std::vector<Stage> stages_of(const PipelineConfig& config) {
  std::vector<Stage> stages = {extract_stage(config), filter_stage(config)};
  if (config.dedup.exact) stages.push_back(exact_stage(config));
  if (config.dedup.minhash.enabled) stages.push_back(minhash_stage(config));
  if (config.dedup.lines.enabled) stages.push_back(lines_stage(config));
  if (!config.decontaminate.inputs.empty()) stages.push_back(decontaminate_stage(config));
  if (!config.score.classifier.empty() || !config.score.perplexity.empty())
    stages.push_back(score_stage(config));
  if (config.scrub.enabled) stages.push_back(scrub_stage(config));
  const auto mixed = [](const SourceConfig& s) { return s.weight > 0 || s.epochs != 1; };
  if (std::any_of(config.sources.begin(), config.sources.end(), mixed)) stages.push_back(mix_stage(config));
  stages.push_back(config.pack.tokenizer.empty() ? documents_stage(config) : pack_stage(config));
  return stages;
}

Json PipelineResult::json() const {
  const auto object = [](const std::map<std::string, uint64_t>& m) {
    return m.empty() ? Json::object() : Json(m);
  };
  return {{"documents_in", documents_in},
          {"documents_out", documents_out},
          {"dropped", object(dropped)},
          {"skipped", object(skipped)},
          {"stages", stages},
          {"output", output},
          {"digest", digest}};
}

PipelineResult run_pipeline(const PipelineConfig& config, const kn::Exec& exec, Log& log,
                            const std::string& version) {
  check_config(config);
  const std::vector<Stage> known = stages_of(config);  // what is wrong with the config is said before work
  const fs::path folder = config.output;
  open_folder(folder);
  const FolderLock lock(folder);
  fs::remove(folder / "result.json");
  std::vector<Part> parts = list_parts(config, folder, log);
  remove_other_output(folder, known.back().name, log);
  PipelineConfig copy = config;
  Json folders = Json::array();
  for (const Stage& stage : known) folders.push_back(folder_of(stage.name));
  const Json run = {{"llmctl", version},
                    {"config", fields_of(copy).write()},
                    {"stages", folders},
                    {"inputs", parts_json(parts, config)}};
  write_file(folder / "run.json", run.dump(1) + "\n", true);
  std::string inputs;
  for (const Part& part : parts) inputs += part.input_digest.hex();
  PipelineResult result;
  std::string state;
  for (Stage stage : known) {
    if (stage.name == "extract") {
      stage.inputs = digest_of(inputs).hex();
      Json& source_of = stage.config["source_of_parts"] = Json::array();  // a file may go to another source
      for (const Part& part : parts) source_of.push_back(part.source);
    }
    const bool is_output = stage.name == known.back().name;
    check(!is_output || result.documents_out > 0, Code::input, "[data] nothing is left of ",
          result.documents_in, " documents to write: see `llmctl data report ", folder.string(), "`");
    tell(result, stage, run_stage(stage, folder, config, exec, log, parts, state, version));
  }
  write_file(folder / "result.json", result.json().dump(1) + "\n", true);
  return result;
}

std::vector<fs::path> finished_stages(const fs::path& folder) {
  std::vector<fs::path> out;
  const Json run = read_json(folder / "run.json");
  for (const Json& name : field(run, "stages")) {
    const fs::path stage = folder / name.get<std::string>();
    if (!fs::exists(stage / "stage.json") || !read_json(stage / "stage.json").contains("documents_in")) break;
    out.push_back(stage);
  }
  return out;
}

PipelineConfig pipeline_config_of(const fs::path& folder) {
  const fs::path file = folder / "run.json";
  check(fs::exists(file), Code::input, "[data] ", folder.string(),
        " holds no run of the pipeline (no run.json)");
  PipelineConfig config;
  fields_of(config).read(field(read_json(file), "config"), file.string());
  return config;
}

}  // namespace llmctl
