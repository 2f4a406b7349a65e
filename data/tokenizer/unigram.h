// SPDX-License-Identifier: Apache-2.0
// The unigram language model (Kudo 2018, arXiv 1804.10959): the cut of a piece with the highest sum of
// scores, by Viterbi over the tokens that begin at each code point. A code point that no token spells
// alone may be unknown at the lowest score less 10; unknown stretches are joined, then spelled in
// bytes when there are <0xNN> tokens for all of them. Ties go to the token that begins first, as in
// Hugging Face tokenizers (tokenizer.json: sums in double) and sentencepiece 0.2.3 (.model: sums in float,
// counted from 0 again beyond 100,000).
// Time is linear in the piece for a given vocabulary.
#pragma once

#include <array>

#include "data/tokenizer/bpe.h"
#include "data/tokenizer/byte_trie.h"
#include "data/tokenizer/token_model.h"

namespace llmctl {

struct Unigram final : TokenModel {
  int32_t unk = -1;
  double unk_score = 0;
  bool single_precision = false;  // sums as sentencepiece makes them
  bool byte_fallback = false;
  std::array<int32_t, 256> byte_ids{};  // -1: none; used with byte_fallback
  std::vector<double> scores;           // by id
  ByteTrie trie;                        // of the tokens that text may become

  void encode(std::string_view piece, std::vector<int32_t>& out) const override;
  void ends_of(std::string_view piece, const int32_t* ids, size_t count,
               std::vector<size_t>& ends) const override;

 private:
  struct Cut {
    size_t begin, end;
    int32_t id;
  };
  std::vector<Cut> cut(std::string_view piece) const;
  bool spelled(std::string_view bytes) const;
};

}  // namespace llmctl
