// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/added_tokens.h"

#include <algorithm>
#include <cstring>

#include "data/text/unicode.h"
#include "data/text/utf8.h"

namespace llmctl {

AddedTokenFinder::AddedTokenFinder() : nodes_(1) {}

void AddedTokenFinder::add(const AddedToken& token, const std::string& spelling) {
  if (spelling.empty()) return;
  uint32_t node = 0;
  for (const char c : spelling) {
    const auto [it, fresh] =
        nodes_[node].next.try_emplace(static_cast<uint8_t>(c), static_cast<uint32_t>(nodes_.size()));
    node = it->second;
    if (fresh) nodes_.emplace_back();
  }
  bool& starts = starts_[static_cast<uint8_t>(spelling[0])];
  if (!starts) start_bytes_.push_back(static_cast<uint8_t>(spelling[0]));
  starts = true;
  all_special_ = all_special_ && token.special;
  nodes_[node].token = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
}

AddedTokenFinder::Hit AddedTokenFinder::longest_at(std::string_view text, size_t at) const {
  Hit hit;
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto it = nodes_[node].next.find(static_cast<uint8_t>(text[i]));
    if (it == nodes_[node].next.end()) break;
    node = it->second;
    if (nodes_[node].token >= 0) hit = {i + 1, nodes_[node].token};
  }
  return hit;
}

namespace {

// The code point that ends at `at`, not valid when there is none; low < at.
CodePoint code_point_before(std::string_view text, size_t low, size_t at) {
  size_t start = at - 1;
  while (start > low && at - start < 4 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
  CodePoint point = code_point_at(text, start);
  if (start + point.bytes != at) point.kind = CodePoint::Kind::invalid;
  return point;
}

size_t spaces_before(std::string_view text, size_t low, size_t at) {
  while (at > low) {
    const CodePoint point = code_point_before(text, low, at);
    if (point.kind != CodePoint::Kind::valid || !is_white_space(point.value)) break;
    at -= point.bytes;
  }
  return at;
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  const auto is_word = [](const CodePoint& p) {
    return p.kind == CodePoint::Kind::valid && is_word_part(p.value);
  };
  if (begin > 0 && is_word(code_point_before(text, 0, begin))) return false;
  return end == text.size() || !is_word(code_point_at(text, end));
}

size_t spaces_after(std::string_view text, size_t at) {
  while (at < text.size()) {
    const CodePoint point = code_point_at(text, at);
    if (point.kind != CodePoint::Kind::valid || !is_white_space(point.value)) break;
    at += point.bytes;
  }
  return at;
}

// The next place where a token may start: memchr for each of a few first bytes, remembered, so that a
// rare one is not looked for again at every hit of a frequent one.
class StartSearch {
 public:
  StartSearch(std::string_view text, const std::vector<uint8_t>& bytes) : text_(text), bytes_(bytes) {}
  bool pays() const { return bytes_.size() <= kMost; }
  size_t from(size_t at) {  // text.size(): none
    size_t first = text_.size();
    for (size_t i = 0; i < bytes_.size(); ++i) {
      if (!known_[i] || next_[i] < at) {
        const void* hit = std::memchr(text_.data() + at, bytes_[i], text_.size() - at);
        next_[i] = hit ? static_cast<size_t>(static_cast<const char*>(hit) - text_.data()) : text_.size();
        known_[i] = true;
      }
      first = std::min(first, next_[i]);
    }
    return first;
  }

 private:
  static constexpr size_t kMost = 4;
  std::string_view text_;
  const std::vector<uint8_t>& bytes_;
  std::array<size_t, kMost> next_{};
  std::array<bool, kMost> known_{};
};

}  // namespace

std::vector<Section> AddedTokenFinder::split(std::string_view text, bool special) const {
  std::vector<Section> sections;
  size_t done = 0;
  StartSearch search(text, start_bytes_);
  for (size_t at = 0; at < text.size() && !idle(special);) {
    if (search.pays() && (at = search.from(at)) == text.size()) break;
    const Hit hit = starts_[static_cast<uint8_t>(text[at])] ? longest_at(text, at) : Hit{};
    if (hit.token < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[hit.token];
    if ((token.special && !special) || (token.single_word && !stands_alone(text, at, hit.end))) {
      at = hit.end;
      continue;
    }
    const size_t begin = token.lstrip ? spaces_before(text, done, at) : at;
    const size_t end = token.rstrip ? spaces_after(text, hit.end) : hit.end;
    if (begin > done) sections.push_back({done, begin, -1});
    sections.push_back({begin, end, token.id});
    done = at = end;
  }
  if (done < text.size()) sections.push_back({done, text.size(), -1});
  return sections;
}

}  // namespace llmctl
