// SPDX-License-Identifier: Apache-2.0
// Which bytes of a piece each id of it covers, for offsets.
#include <algorithm>

#include "data/text/utf8.h"
#include "data/tokenizer/bpe.h"

namespace llmctl {

// Where the unknown symbol at `at` ends: one code point, or with fuse_unk a run of unknown ones.
size_t Bpe::unknown_end(std::string_view piece, size_t at) const {
  const auto symbol_end = [&](size_t from) {
    const CodePoint point = code_point_at(piece, from);
    return from + (point.kind == CodePoint::Kind::valid ? point.bytes : 1);
  };
  const auto unknown = [&](size_t from, size_t to) {
    if (ids.contains(piece.substr(from, to - from))) return false;
    bool spelled = byte_fallback;
    for (size_t i = from; i < to; ++i) spelled = spelled && byte_ids[static_cast<uint8_t>(piece[i])] >= 0;
    return !spelled;
  };
  size_t end = symbol_end(at);
  while (fuse_unk && end < piece.size() && unknown(end, symbol_end(end))) end = symbol_end(end);
  return end;
}

bool Bpe::is_byte(int32_t id, std::string_view piece, size_t at) const {
  return at < piece.size() && byte_ids[static_cast<uint8_t>(piece[at])] == id;
}

void Bpe::ends_of(std::string_view piece, const int32_t* found, size_t count,
                  std::vector<size_t>& ends) const {
  size_t at = 0;
  for (size_t i = 0; i < count; ++i) {
    const auto id = static_cast<size_t>(found[i]);
    if (is_byte(found[i], piece, at))
      ++at;
    else if (found[i] == unk)
      at = unknown_end(piece, at);
    else
      at += id < sizes.size() ? sizes[id] : 0;
    ends.push_back(std::min(at, piece.size()));
  }
}

}  // namespace llmctl
