// SPDX-License-Identifier: Apache-2.0
// How sentencepiece normalizes a text (normalizer.cc): the longest rule of the charsmap at each place,
// spaces trimmed, joined and written as U+2581, one added in front. Stretches that are user-defined
// tokens stay. Bytes that are no UTF-8 stay too (sentencepiece makes them U+FFFD).
#pragma once

#include <memory>

#include "data/text/rewrite.h"
#include "data/tokenizer/byte_trie.h"
#include "data/tokenizer/charsmap.h"

namespace llmctl {

struct SentencePieceRules {
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
  bool space_as_suffix = false;                  // the added space goes to the end
  std::shared_ptr<const Charsmap> map;           // null: every code point stays
  std::shared_ptr<const ByteTrie> user_defined;  // null: none
};
AlignedText sentencepiece_text(const AlignedText& text, const SentencePieceRules& rules);

}  // namespace llmctl
