// SPDX-License-Identifier: Apache-2.0
// How often each piece of a corpus occurs, within a stated amount of memory: what passes it is sorted and
// spilled to files, which each() joins. Counts are integers, so they do not depend on threads or spills.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/file.h"
#include "data/tokenizer/piece_table.h"
#include "data/tokenizer/pre_tokenizer.h"

namespace llmctl {

class PieceCounter {
 public:
  // `pattern` as --pattern. Above `memory` bytes (0: no limit) pieces are spilled to files in `folder`.
  explicit PieceCounter(const std::string& pattern, uint64_t memory = 0, fs::path folder = {});
  ~PieceCounter();  // removes what was spilled
  PieceCounter(PieceCounter&&) noexcept;
  PieceCounter& operator=(PieceCounter&&) noexcept;
  void add(std::string_view text);
  // Takes over what `other` counted and leaves it empty.
  void merge(PieceCounter&& other);
  uint64_t bytes() const { return bytes_; }  // of text
  size_t spills() const { return runs_.size(); }
  // Each piece once; ascending when anything was spilled. Error{io} for a spilled file that changed.
  void each(const PieceTable::Sink& sink);

 private:
  void put(std::string_view piece, uint64_t count, const char* end);
  void spill();
  PreTokenizer cut_;
  uint64_t memory_ = 0, bytes_ = 0;
  fs::path folder_;
  PieceTable table_;
  struct Run;
  std::vector<std::unique_ptr<Run>> runs_;
};

}  // namespace llmctl
