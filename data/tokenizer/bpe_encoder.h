// SPDX-License-Identifier: Apache-2.0
// The quick way from text to the ids of a byte-level BPE vocabulary. Pieces are cut once more where no token
// lies across (token_borders.h). Those of up to 15 bytes are looked up in a table that was made by running
// the merges on each vocabulary entry (an entry that the merges cannot reach is not taken as a whole, unless
// the file says ignore_merges) and on each character of three bytes; others are merged, several at a time.
// The ids are those of Bpe::encode on every piece; for any text, time is O(n log n) of its longest piece.
// Threads: const after construction; a PieceCache belongs to one thread.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "data/tokenizer/bpe.h"
#include "data/tokenizer/piece_ids.h"
#include "data/tokenizer/pre_tokenizer.h"
#include "data/tokenizer/token_borders.h"

namespace llmctl {

class BpeEncoder {
 public:
  // Null when `bpe` is not of bytes, lacks a byte, or has ids or ranks that the tables cannot hold.
  // `bpe` stays where it is as long as this lives.
  static std::unique_ptr<const BpeEncoder> make(const Bpe& bpe, kn::Isa isa = kn::supported_isas().front());
  // Appends the ids of a section of text. cache: null for none.
  void encode(std::string_view text, bool at_start, const PreTokenizer& pre, PieceCache* cache,
              std::vector<int32_t>& out) const;

 private:
  struct Batch;
  BpeEncoder(const Bpe& bpe, kn::Isa isa);
  void fill_pairs();
  void fill_pieces();
  void add_piece(std::string_view bytes, int32_t id);
  void fill_characters();
  void add_front(const PieceEntry& entry);
  // The pieces of text that begin at `begin` and end at ends[0, count), cut further.
  void encode_cut(std::string_view text, uint32_t begin, const uint32_t* ends, size_t count, Batch& batch,
                  std::vector<int32_t>& out) const;
  void encode_pieces(std::string_view text, uint32_t begin, const uint32_t* ends, size_t count, Batch& batch,
                     std::vector<int32_t>& out) const;
  void look_up(std::string_view text, uint32_t begin, const uint32_t* ends, size_t count, Batch& batch) const;
  void find_missed(std::string_view text, uint32_t begin, const uint32_t* ends, Batch& batch) const;
  const PieceEntry* find_behind(const PieceKey& key, uint64_t hash, const PieceCache* cache) const;
  int32_t* encode_one(std::string_view piece, int32_t* out) const;
  void encode_long(std::string_view piece, PieceCache* cache, std::vector<int32_t>& out) const;
  const Bpe& bpe_;
  PairMergers merge_;
  HugeArray<uint32_t> byte_ranks_, joined_;
  std::vector<uint32_t> symbols_;
  HugeArray<uint64_t> slots_;
  PairRanks pairs_;
  PieceFront front_;  // the vocabulary's lowest ids, which are the pieces seen most
  PieceIds pieces_;   // the vocabulary, and characters that are several ids
  TokenBorders borders_;
  StringIds longs_;  // vocabulary entries of 16 bytes and more that are one id
  size_t longest_ = 0;
};

}  // namespace llmctl
