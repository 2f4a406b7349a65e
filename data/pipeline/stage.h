// SPDX-License-Identifier: Apache-2.0
// A stage of a run: reads what stages before it finished and writes a folder of its own,
//   NN-name/part-00000.verdicts   columns: `rule` by place, 0 kept (or dropped before), else 1 + its number
//                                 in the manifest's list; and what else the stage knows of a document
//   NN-name/part-00000.records    texts, when it changes them
//   NN-name/part-00000.json       the part is done (key, counts)
//   NN-name/stage.json            all is done: key, config, rules, counts by rule and source, seconds,
//                                 memory, digest of what it made; written last
//   NN-name/unfinished            the key of the files that are here, until stage.json says that all are
// The key is a digest of the stage's part of the config and of the digest of the stage before. A stage, or
// a part of one, whose file says its key and whose files are sound (finished_files.h) is not done again; one
// whose key differs is, from an empty folder, and it is said why.
#pragma once

#include <map>

#include "data/pipeline/finished_files.h"
#include "data/pipeline/parts.h"
#include "data/records/columns.h"

namespace llmctl {

class StageFolder {
 public:
  StageFolder(fs::path folder, std::string key) : folder_(std::move(folder)), key_(std::move(key)) {}
  const fs::path& path() const { return folder_; }
  const std::string& key() const { return key_; }
  // folder/part-00007.suffix
  fs::path file(uint32_t part, const char* suffix) const;
  // What finish_part() said of that part under this key, when the files it lists are sound; null otherwise.
  Json finished_part(uint32_t part) const;
  // `files` are names in the folder.
  void finish_part(uint32_t part, Json counts, const std::vector<std::string>& files) const;

 private:
  fs::path folder_;
  std::string key_;
};

// What every stage is given.
struct StageContext {
  const PipelineConfig& config;
  const kn::Exec& exec;
  Log& log;
  std::vector<Part>& parts;
  StageFolder folder;
  fs::path scratch;  // empty, removed when the stage is done
  std::string version;
};

// What it gives back, beside its files: verdicts of every part.
struct StageOutcome {
  std::vector<std::string> rules;
  Json extra = Json::object();  // into the manifest
  Digest digest;                // of what it made of no part alone (shards)
  Json files = Json::array();   // those, as finished_file() lists them
  bool has_texts = false;       // the parts' records are part-N.records from here on
  bool has_sizes = false;       // and the column `bytes` of part-N.verdicts says how long they are
  uint64_t bytes = 0;           // read, for the throughput
};

struct Stage {
  std::string name;
  Json config;         // what decides its results
  std::string inputs;  // digest of source files it reads; a part may be kept where its own did not change
  std::function<StageOutcome(StageContext&)> work;
  // Sets what later stages need of the parts (records, alive, copies): after work() or instead of it.
  std::function<void(const StageFolder&, const Json& manifest, std::vector<Part>&)> load;
};

// Verdicts under way: rule numbers by place, and what else the stage knows.
class Verdicts {
 public:
  explicit Verdicts(uint64_t documents) : columns_(documents) { columns_.add_integer("rule"); }
  void drop(uint64_t place, uint64_t rule) { columns_.at(0).integers[place] = rule + 1; }
  Columns& columns() { return columns_; }
  // Writes the part's file and says that the part is done. `made` are other files of it, and `digest` theirs.
  void finish(const StageFolder& folder, uint32_t part, Digest digest = {},
              std::vector<std::string> made = {}) const;

 private:
  Columns columns_;
};

// Runs or reuses one stage, counts, and applies its verdicts to the parts; returns its manifest. `state` is
// the digest of the stage before and becomes this one's. `version`: of llmctl.
Json run_stage(const Stage& stage, const fs::path& run, const PipelineConfig& config, const kn::Exec& exec,
               Log& log, std::vector<Part>& parts, std::string& state, const std::string& version);

// Says of a finished stage's folder that its files may be of another run than the one under way, until
// run_stage() has looked at them: readers of shards refuse it. Nothing when the stage was not finished.
void hold_folder(const fs::path& folder);

// "04-minhash" of "minhash": the number is the stage's place among all there are.
std::string folder_of(const std::string& stage);

}  // namespace llmctl
