// SPDX-License-Identifier: Apache-2.0
// The sources of a run as parts, one a source file: what is worked on, finished and done again at once.
// A document is (part, place): its place among the records extracted from that file, the same in every
// file of records and columns that a stage writes. A document that is dropped keeps its place.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "core/base/progress.h"
#include "core/base/signal.h"
#include "data/pipeline/config.h"
#include "data/records/record_file.h"
#include "kernels/exec.h"

namespace llmctl {

struct Part {
  uint32_t number = 0;
  size_t source = 0;  // in the config's list
  fs::path input;
  uint64_t input_bytes = 0;
  Digest input_digest;
  // Since extraction:
  uint64_t documents = 0;
  fs::path records, columns;     // texts as the last stage left them; signals
  fs::path sizes;                // columns whose `bytes` are of those texts
  std::vector<bool> alive;       // by place
  std::vector<uint64_t> copies;  // by place, since the mixture; none: one of each that is alive
};

// Progress of work that threads share. Throws Error{interrupted} from add() after a signal.
class Meter {
 public:
  Meter(Log& log, const std::string& what, const std::string& unit, uint64_t total)
      : progress_(log, what, unit, total) {}
  void add(uint64_t done) {
    stop_if_interrupted("data run");
    const std::lock_guard lock(mutex_);
    progress_.update(done_ += done);
  }

 private:
  std::mutex mutex_;
  Progress progress_;
  uint64_t done_ = 0;
};

// The files of the config's sources, numbered in order, with their digests. What run.json in `folder` says
// of an unchanged file (size, times, inode) is believed. Error{input} for a file named twice, and where
// run.json lists files that are gone or lacks some that are there: numbers of files are names of documents.
std::vector<Part> list_parts(const PipelineConfig& config, const fs::path& folder, Log& log);
// What run.json says of them.
Json parts_json(const std::vector<Part>& parts, const PipelineConfig& config);

struct Located {
  uint64_t place = 0;
  Record record;
};
uint64_t bytes_of(const std::vector<Located>& batch);  // of their texts
// The part's documents that are alive, in order and in batches of a few MiB. Error{input} naming a file that
// is damaged.
void for_each_batch(const kn::Exec& exec, const Part& part,
                    const std::function<void(std::vector<Located>&)>& sink);
// The same from a place on, until the sink says false.
void for_each_batch(const kn::Exec& exec, const Part& part, uint64_t from,
                    const std::function<bool(std::vector<Located>&)>& sink);

}  // namespace llmctl
