// SPDX-License-Identifier: Apache-2.0
// Learns a byte-level BPE vocabulary: count the pieces of the text once, then join the most frequent
// pair again and again, with pair counts kept up to date and a lazy heap (the pair of smaller ids
// wins a tie). The merges are those of Hugging Face's BpeTrainer with min_frequency 0 on the same
// texts. Counts are integers and pieces are sorted, so the result does not depend on threads.
//
// Ids: 0..255 are the bytes in the order of their spelling ('!' is 0), then the merges in order, then
// the special tokens <|endoftext|>, <|im_start|>, <|im_end|>. A vocabulary of exactly 256 has bytes
// only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/base/json.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/pre_tokenizer.h"

namespace llmctl {

struct BpeTrainOptions {
  int64_t vocab_size = 0;        // 256, or 259 and more
  std::string pattern = "gpt2";  // as --pattern
};

// Pieces of many texts with their counts. Threads: one counter each, then merge().
class PieceCounter {
 public:
  explicit PieceCounter(const std::string& pattern);
  void add(std::string_view text);
  void merge(const PieceCounter& other);
  uint64_t bytes() const { return bytes_; }
  // Sorted by piece.
  std::vector<std::pair<std::string, int64_t>> sorted() const;

 private:
  PreTokenizer cut_;
  std::unordered_map<std::string, int64_t, StringHash, std::equal_to<>> counts_;
  uint64_t bytes_ = 0;
};

struct TrainedBpe {
  std::vector<std::string> tokens;                  // bytes of ids 0.., without the special tokens
  std::vector<std::pair<int32_t, int32_t>> merges;  // in order of rank
};
// `progress` gets the number of tokens so far. Error{usage} for an impossible size.
TrainedBpe train_bpe(const PieceCounter& pieces, const BpeTrainOptions& options,
                     const std::function<void(int64_t)>& progress);

// The two files of a tokenizer folder.
struct TokenizerFiles {
  Json tokenizer, config;
};
TokenizerFiles tokenizer_files(const TrainedBpe& trained, const BpeTrainOptions& options);

}  // namespace llmctl
