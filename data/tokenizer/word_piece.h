// SPDX-License-Identifier: Apache-2.0
// Models that look words up. WordPiece (Schuster and Nakajima 2012, as BERT has it): the longest token
// first, then the longest continuation, and the whole word unknown where that fails. WordLevel: the
// whole word or unknown. Both linear in the piece.
#pragma once

#include "data/tokenizer/byte_trie.h"
#include "data/tokenizer/token_model.h"

namespace llmctl {

struct WordPiece final : TokenModel {
  int32_t unk = -1;
  size_t longest_word = 100;  // code points; a longer word is unknown
  ByteTrie trie;
  uint32_t continuation = ByteTrie::kNone;  // where continuations begin in the trie
  size_t prefix_size = 0;                   // bytes of the mark of a continuation
  std::vector<uint32_t> sizes;              // by id: bytes of the token's spelling

  void encode(std::string_view piece, std::vector<int32_t>& out) const override;
  void ends_of(std::string_view piece, const int32_t* ids, size_t count,
               std::vector<size_t>& ends) const override;
};

struct WordLevel final : TokenModel {
  int32_t unk = -1;
  ByteTrie trie;

  void encode(std::string_view piece, std::vector<int32_t>& out) const override;
  void ends_of(std::string_view piece, const int32_t* ids, size_t count,
               std::vector<size_t>& ends) const override;
};

}  // namespace llmctl
