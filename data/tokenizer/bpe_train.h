// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding learned from counts of pieces (Sennrich et al. 2016, arXiv 1508.07909): join the most
// frequent pair again and again, with pair counts kept up to date and a lazy heap. The merges are those of
// Hugging Face's BpeTrainer with the same min_frequency on the same texts. Counts are integers, so the
// result depends on neither threads nor memory.
//
// The corpus lies in memory once, as its different pieces: a symbol of 4 bytes per byte of them, and places
// where pairs stand, at most 12 bytes more; when that passes the memory given, in an unnamed file.
//
// A token has at most 65,536 bytes: a pair that would make a longer one is passed over.
//
// Ids: 0..255 are the bytes in the order of their spelling ('!' is 0), then the merges in order, then
// the special tokens <|endoftext|>, <|im_start|>, <|im_end|>. A vocabulary of exactly 256 has bytes
// only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "data/tokenizer/piece_counter.h"

namespace llmctl {

// Which of two pairs that are as frequent goes first: the one of smaller ids, as Hugging Face's trainer has
// it, or the one whose bytes come first (left, then right), which no numbering of tokens changes.
enum class TieBreak { ids, bytes };
TieBreak tie_break_of(const std::string& name);  // Error{usage}

struct BpeTrainOptions {
  int64_t vocab_size = 0;        // 256, or 259 and more
  std::string pattern = "gpt2";  // as --pattern
  TieBreak tie_break = TieBreak::ids;
  int64_t min_frequency = 0;  // a pair that is rarer is not joined
  uint64_t memory = 0;        // bytes; 0: no limit
  fs::path folder;            // for what passes it
};

struct TrainedBpe {
  std::vector<std::string> tokens;                  // bytes of ids 0.., without the special tokens
  std::vector<std::pair<int32_t, int32_t>> merges;  // in order of rank
};
// `progress` gets the number of tokens so far. Error{usage} for an impossible size, Error{unsupported} for
// 2^32 bytes or more of different pieces.
TrainedBpe train_bpe(PieceCounter& pieces, const BpeTrainOptions& options,
                     const std::function<void(int64_t)>& progress);

// The two files of a tokenizer folder.
struct TokenizerFiles {
  Json tokenizer, config;
};
TokenizerFiles tokenizer_files(const TrainedBpe& trained, const BpeTrainOptions& options);

}  // namespace llmctl
