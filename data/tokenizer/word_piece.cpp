// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/word_piece.h"

#include <algorithm>

#include "data/text/utf8.h"
#include "kernels/error.h"

namespace llmctl {

namespace {

// Stops counting at limit + 1.
size_t code_points(std::string_view text, size_t limit) {
  size_t count = 0;
  for (size_t at = 0; at < text.size() && count <= limit; ++count) {
    const CodePoint point = code_point_at(text, at);
    at += point.kind == CodePoint::Kind::valid ? point.bytes : 1;
  }
  return count;
}

void push_unknown(int32_t unk, std::string_view piece, std::vector<int32_t>& out) {
  check(unk >= 0, Code::input, "[tokenizer] '", piece.substr(0, 64),
        "' is not in the vocabulary and there is no unknown token");
  out.push_back(unk);
}

}  // namespace

void WordPiece::encode(std::string_view piece, std::vector<int32_t>& out) const {
  const size_t before = out.size();
  bool known = code_points(piece, longest_word) <= longest_word;
  for (size_t at = 0; known && at < piece.size();) {
    const uint32_t from = at == 0 ? ByteTrie::kRoot : continuation;
    const ByteTrie::Hit hit =
        from == ByteTrie::kNone ? ByteTrie::Hit{} : trie.longest(piece.substr(at), from);
    known = hit.value >= 0;
    at += hit.size;
    if (known) out.push_back(hit.value);
  }
  if (known) return;
  out.resize(before);
  push_unknown(unk, piece, out);
}

void WordPiece::ends_of(std::string_view piece, const int32_t* ids, size_t count,
                        std::vector<size_t>& ends) const {
  size_t at = 0;
  for (size_t i = 0; i < count; ++i) {
    const bool whole = count == 1;  // a word alone, or an unknown one
    at += sizes[static_cast<size_t>(ids[i])] - (i > 0 ? prefix_size : 0);
    ends.push_back(whole ? piece.size() : std::min(at, piece.size()));
  }
}

void WordLevel::encode(std::string_view piece, std::vector<int32_t>& out) const {
  const uint32_t node = trie.walk(ByteTrie::kRoot, piece);
  const int32_t id = node == ByteTrie::kNone ? -1 : trie.value(node);
  if (id >= 0)
    out.push_back(id);
  else
    push_unknown(unk, piece, out);
}

void WordLevel::ends_of(std::string_view piece, const int32_t*, size_t count,
                        std::vector<size_t>& ends) const {
  ends.insert(ends.end(), count, piece.size());
}

}  // namespace llmctl
