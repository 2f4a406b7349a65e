// SPDX-License-Identifier: Apache-2.0
// What turns one piece of pre-tokenized text into ids: Bpe, Unigram, WordPiece, WordLevel.
// Threads: const after construction, callable from many at once. The same piece gives the same ids.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace llmctl {

struct TokenModel {
  virtual ~TokenModel() = default;
  // Appends the ids of one piece (bytes, not necessarily UTF-8). Error{input} for a piece that the
  // vocabulary cannot spell.
  virtual void encode(std::string_view piece, std::vector<int32_t>& out) const = 0;
  // The bytes of `piece` behind each of its ids, as encode() gave them: ascending ends, the last one
  // piece.size(). An id that stands for no bytes repeats the end before it.
  virtual void ends_of(std::string_view piece, const int32_t* ids, size_t count,
                       std::vector<size_t>& ends) const = 0;
};

}  // namespace llmctl
