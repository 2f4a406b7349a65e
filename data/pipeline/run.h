// SPDX-License-Identifier: Apache-2.0
// A run of the pipeline into a folder: run.json (config, inputs and their digests), a folder for each stage
// (data/pipeline/stage.h), result.json last. A folder with a run.json is gone on with: what is finished and
// has its inputs and its part of the config as they were is not done again, so a kill at any point costs
// the part under way and changes no byte of the result.
//
// What changed meanwhile: a source file or a part of the config: what depends on it is done again, and it
// is said. A source file that is gone, or one more: Error{input}. A file of a stage that is missing, cut
// or not what was written (finished_files.h) is made again, and it is said: of extraction and of packed
// shards that part alone, of other stages all. What a disk spoils unseen is Error{input} naming the file.
//
// Stale results: result.json is there only when all is as the config says. While a stage is made again, the
// folder of shards has a file `unfinished`, and open_packed() refuses it; shards of another config are
// removed before the first of this one is written, and 10-documents when the config packs, or 10-pack.
//
// When no document is left to write: Error{input}, whatever the output, and no output.
#pragma once

#include "data/pipeline/stage.h"

namespace llmctl {

struct PipelineResult {
  uint64_t documents_in = 0, documents_out = 0;
  std::map<std::string, uint64_t> dropped, skipped;  // by rule; by ingest: no documents
  Json stages = Json::array();                       // {name, documents_in, kept, seconds, ...}
  Json output;                                       // {folder, documents, tokens, shards}
  std::string digest;
  Json json() const;
};

// Error{interrupted} after a signal; the next run goes on.
PipelineResult run_pipeline(const PipelineConfig& config, const kn::Exec& exec, Log& log,
                            const std::string& version);

// The config of a run: Error{input} when the folder holds none.
PipelineConfig pipeline_config_of(const fs::path& folder);
// Folders of the stages of a run that are finished, in order, up to the first that is not.
std::vector<fs::path> finished_stages(const fs::path& folder);

}  // namespace llmctl
