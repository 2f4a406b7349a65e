// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding of one piece: start from single symbols, then always join the pair of lowest
// rank, leftmost first (Sennrich et al. 2016, arXiv 1508.07909; ties as in Hugging Face tokenizers).
// Short pieces are scanned, long ones use a heap: O(n log n) for any text.
// Threads: const after construction.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/string_ids.h"
#include "data/tokenizer/token_model.h"

namespace llmctl {

struct Merge {
  int32_t rank = -1, id = -1;  // rank -1: no merge
};

// Open-addressing map from a pair of ids to its merge.
class MergeTable {
 public:
  explicit MergeTable(size_t merges = 0);
  void set(int32_t left, int32_t right, Merge merge);  // the last one set counts
  Merge find(int32_t left, int32_t right) const;
  template <class Each>
  void for_each(Each&& each) const {  // each(left, right, merge), in no order
    for (size_t i = 0; i < keys_.size(); ++i)
      if (values_[i].rank >= 0)
        each(static_cast<int32_t>(keys_[i] >> 32), static_cast<int32_t>(keys_[i]), values_[i]);
  }

 private:
  size_t slot_of(uint64_t key) const;
  std::vector<uint64_t> keys_;
  std::vector<Merge> values_;
  int shift_ = 0;
};

struct Bpe final : TokenModel {
  bool byte_level = false;     // symbols are bytes; else code points
  bool byte_fallback = false;  // unknown code points become <0xNN> bytes
  bool fuse_unk = false, ignore_merges = false;
  int32_t unk = -1;
  std::array<int32_t, 256> byte_ids{};  // -1: not in the vocabulary
  StringIds ids;                        // the bytes of a piece to its id
  std::vector<uint32_t> sizes;          // by id: bytes of a piece it covers
  MergeTable merges;

  // Appends the ids of one piece. Error{input} for a symbol the vocabulary cannot spell.
  void encode(std::string_view piece, std::vector<int32_t>& out) const override;
  void ends_of(std::string_view piece, const int32_t* found, size_t count,
               std::vector<size_t>& ends) const override;

 private:
  void symbols_of_bytes(std::string_view piece, std::vector<int32_t>& out) const;
  void symbols_of_text(std::string_view piece, std::vector<int32_t>& out) const;
  size_t unknown_end(std::string_view piece, size_t at) const;
  bool is_byte(int32_t id, std::string_view piece, size_t at) const;
};

// Joins in place.
void merge_symbols(const MergeTable& merges, std::vector<int32_t>& symbols);

}  // namespace llmctl
