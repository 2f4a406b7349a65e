// SPDX-License-Identifier: Apache-2.0
// Vocabularies of sentencepiece, from its own files or GGUF, as tokenizer.json. Internal to the tokenizer.
//
// BPE of sentencepiece (bpe_model.cc) joins the pair whose result has the highest score, leftmost among
// equals: merges in descending order of score, those of one score at one rank. Pieces that are control,
// unknown or bytes are never made by joining.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/tokenizer/tokenizer_source.h"

namespace llmctl {

enum class PieceType { normal = 1, unknown, control, user_defined, unused, byte };  // as in the proto
struct SentencePiece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::normal;
};
struct SentencePieceText {  // normalizer_spec
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
  bool space_as_suffix = false;
  std::string charsmap;  // bytes, or nothing
};

// Fill everything but the template and the names of special tokens.
void sentencepiece_bpe(const std::vector<SentencePiece>& pieces, const SentencePieceText& text,
                       TokenizerSource& source);
void sentencepiece_unigram(const std::vector<SentencePiece>& pieces, const SentencePieceText& text,
                           TokenizerSource& source);

}  // namespace llmctl
