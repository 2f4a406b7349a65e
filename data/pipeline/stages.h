// SPDX-License-Identifier: Apache-2.0
// The stages of a run in their order. Each reads what those before it left in the parts.
//   extract        source files into records of text, and every signal of the rules into columns
//   filter         language and rules: predicates over columns; no text is read
//   exact, minhash copies and near copies: the survivor is the least (priority, id)
//   lines          lines or paragraphs seen before leave the text
//   decontaminate  documents that hold evaluation texts
//   score          quality and perplexity into columns, and their thresholds
//   scrub          personal data and keys are replaced in the text
//   mix            how many copies of each document
//   pack           token shards with where each document came from; or `documents`, JSON lines
#pragma once

#include <optional>

#include "data/dedup/verdict.h"
#include "data/pipeline/stage.h"

namespace llmctl {

// Those that the config asks for, in order. The config must outlive them.
std::vector<Stage> stages_of(const PipelineConfig& config);

Stage extract_stage(const PipelineConfig& config);
Stage filter_stage(const PipelineConfig& config);
Stage exact_stage(const PipelineConfig& config);
Stage minhash_stage(const PipelineConfig& config);
Stage lines_stage(const PipelineConfig& config);
Stage decontaminate_stage(const PipelineConfig& config);
Stage score_stage(const PipelineConfig& config);
Stage scrub_stage(const PipelineConfig& config);
Stage mix_stage(const PipelineConfig& config);
Stage pack_stage(const PipelineConfig& config);
Stage documents_stage(const PipelineConfig& config);

// The id by which stages order documents: the same order as Record::id().
inline uint64_t place_id(uint32_t part, uint64_t place) {
  return uint64_t{part} << 40 | place;
}
inline uint64_t part_of_id(uint64_t id) {
  return id >> 40;
}
inline uint64_t place_of_id(uint64_t id) {
  return id & ((uint64_t{1} << 40) - 1);
}

// A batch of a part as deduplication reads it: ids and priorities; the texts stay the batch's.
std::vector<DedupText> texts_of(const Part& part, const PipelineConfig& config,
                                const std::vector<Located>& batch);

// "en" as a number, for columns; and back.
uint64_t language_number(const std::string& code);
std::string language_text(uint64_t number);

// Sum of the text of documents alive, for progress.
uint64_t alive_bytes(const std::vector<Part>& parts);

}  // namespace llmctl
