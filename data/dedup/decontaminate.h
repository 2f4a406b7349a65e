// SPDX-License-Identifier: Apache-2.0
// Finds evaluation text in training documents by n-grams of words (GPT-3, Brown et al. 2020, appendix C:
// 13 words). The index of the evaluation files lies in memory, about 24 bytes a word of theirs; a document
// costs time linear in its words.
//
// Every line of a JSONL file is a record; every string in it, at any depth, is a passage of its own. Passages
// are simplified (data/text/simplify.h). One with fewer than n words and at least min_words is a gram of
// its own length; shorter ones are not searched for, nor is a gram that stands in more than
// max_records records (a task's template, not its content).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "data/dedup/verdict.h"
#include "kernels/exec.h"

namespace llmctl {

struct DecontaminateOptions {
  uint32_t n = 13, min_words = 8;
  uint32_t max_records = 16;
};

struct Contamination {
  uint64_t id = 0;
  uint32_t file = 0;    // number in the list of files
  uint64_t record = 0;  // line, from 0
  // Share of the record's grams that stand in the document, of the record with the largest (then the
  // smallest file and record); how many grams that are; how many records have at least one.
  double overlap = 0;
  uint32_t grams = 0, records = 0;
  bool operator==(const Contamination&) const = default;
};

// Threads: built by one; find() and find_all() are const and may be called from any.
class EvaluationIndex {
 public:
  // Error{input} naming file and line for what is no JSON object.
  EvaluationIndex(const std::vector<fs::path>& files, const DecontaminateOptions& options);
  ~EvaluationIndex();
  uint64_t records() const;
  uint64_t grams() const;
  uint64_t unsearchable() const;  // records with no gram at all
  uint64_t memory_bytes() const;

  // record count 0 (records == 0): nothing found.
  Contamination find(const DedupText& document) const;
  // Those with something found, in the order of the batch.
  std::vector<Contamination> find_all(std::span<const DedupText> batch, const kn::Exec& exec) const;

 private:
  struct State;
  std::unique_ptr<const State> state_;
};

}  // namespace llmctl
