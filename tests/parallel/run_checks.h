// SPDX-License-Identifier: Apache-2.0
// A whole run on ranks that are threads: what tests of saves and of the guard share.
#pragma once

#include <catch2/catch.hpp>
#include <fstream>
#include <mutex>

#include "core/train/run.h"
#include "parallel/thread_world.h"
#include "tests/core/tiny_model.h"
#include "tests/scratch.h"

namespace llmctl::test {

struct RunCase {
  Json hf = tiny_llama(4);
  TrainConfig config = tiny_config();
  const BatchSource* source = nullptr;  // none: CountedTokens
  int ranks = 1;
  bool resume = false;
  int64_t stop_after = 0;
  std::function<void(const fs::path&)> extra;  // called in each save
};

// What every rank's train_run returned; throws what they threw, which must be one error.
inline RunResult run_case(const RunCase& c, const fs::path& folder) {
  const CountedTokens counted(c.config.unit.sequences, c.config.unit.seq_len, 131);
  RunResult result;
  std::mutex mutex;
  std::vector<std::string> errors;
  const auto rank_main = [&](Comm& comm) {
    Machine machine(1);
    Log log(true);
    TrainConfig config = c.config;
    RunInputs in;
    in.config = config;
    in.resolved_config = fields_of(config).write();
    in.spec = tiny_spec(c.hf, c.config);
    in.train = c.source ? c.source : &counted;
    in.folder = folder;
    in.comm = &comm;
    in.resume = c.resume;
    in.stop_after = c.stop_after;
    in.extra_model_files = c.extra;
    try {
      const RunResult r = train_run(in, machine.exec, log);
      if (comm.rank() == 0) result = r;
    } catch (const Error& e) {
      const std::lock_guard lock(mutex);
      errors.push_back(e.what());
      throw;
    }
  };
  try {
    run_threads(c.ranks, 60, rank_main);
  } catch (const Error&) {
    CHECK(errors.size() == static_cast<size_t>(c.ranks));
    for (const std::string& e : errors) CHECK(e == errors.front());
    throw;
  }
  return result;
}

inline std::vector<Json> metrics_of(const fs::path& run) {
  std::vector<Json> lines;
  std::ifstream in(run / "metrics.jsonl");
  for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
  return lines;
}

// What must be the same in two runs of the same steps.
inline std::string bits_of(const fs::path& run) {
  std::string text;
  for (const Json& line : metrics_of(run))
    for (const char* key : {"step", "loss", "grad_norm", "tokens", "targets", "digest", "tensors", "skipped"})
      text += line.value(key, Json()).dump() + " ";
  return text;
}

}  // namespace llmctl::test
