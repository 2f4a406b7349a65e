// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/unigram.h"

#include <algorithm>
#include <cmath>

#include "data/text/utf8.h"
#include "kernels/error.h"

namespace llmctl {

namespace {

struct Best {  // the best way to a place in the piece
  double score = 0;
  uint32_t begin = UINT32_MAX;  // where its last token begins; UINT32_MAX: no way yet
  int32_t id = -1;
};

size_t symbol_size(std::string_view piece, size_t at) {
  const CodePoint point = code_point_at(piece, at);
  return point.kind == CodePoint::Kind::valid ? point.bytes : 1;
}

// sentencepiece counts on from 0 where a sum has grown so large that floats would be coarse.
constexpr double kLargestSum = 100000;
void rebase(std::vector<Best>& best, size_t at, size_t frontier) {
  const double offset = best[at].score;
  for (size_t i = at; i <= frontier; ++i)
    if (i == at || best[i].begin != UINT32_MAX) best[i].score = static_cast<float>(best[i].score - offset);
}

}  // namespace

// Tokens from first to last, unknown stretches joined.
std::vector<Unigram::Cut> Unigram::cut(std::string_view piece) const {
  check(piece.size() < UINT32_MAX, Code::input, "[tokenizer] piece of ", piece.size(), " bytes is too long");
  std::vector<Best> best(piece.size() + 1);
  size_t frontier = 0;  // the farthest place with a way to it
  const auto offer = [&](size_t from, size_t to, double score, int32_t id) {
    double sum = best[from].score + score;
    if (single_precision) sum = static_cast<float>(sum);
    frontier = std::max(frontier, to);
    if (best[to].begin == UINT32_MAX || sum > best[to].score)
      best[to] = {sum, static_cast<uint32_t>(from), id};
  };
  for (size_t at = 0; at < piece.size();) {
    if (single_precision && std::abs(best[at].score) > kLargestSum) rebase(best, at, frontier);
    const size_t symbol = symbol_size(piece, at);
    bool alone = false;
    uint32_t node = ByteTrie::kRoot;
    for (size_t i = at; i < piece.size(); ++i) {
      node = trie.step(node, static_cast<uint8_t>(piece[i]));
      if (node == ByteTrie::kNone) break;
      const int32_t id = trie.value(node);
      if (id < 0) continue;
      offer(at, i + 1, scores[static_cast<size_t>(id)], id);
      alone = alone || i + 1 == at + symbol;
    }
    if (!alone) offer(at, at + symbol, unk_score, -1);
    at += symbol;
  }
  std::vector<Cut> cuts;
  for (size_t end = piece.size(); end > 0; end = best[end].begin) {
    if (best[end].id < 0 && !cuts.empty() && cuts.back().id < 0)
      cuts.back().begin = best[end].begin;
    else
      cuts.push_back({best[end].begin, end, best[end].id});
  }
  std::reverse(cuts.begin(), cuts.end());
  return cuts;
}

bool Unigram::spelled(std::string_view bytes) const {
  return byte_fallback && std::all_of(bytes.begin(), bytes.end(),
                                      [&](char c) { return byte_ids[static_cast<uint8_t>(c)] >= 0; });
}

void Unigram::encode(std::string_view piece, std::vector<int32_t>& out) const {
  for (const Cut& c : cut(piece)) {
    const std::string_view text = piece.substr(c.begin, c.end - c.begin);
    if (c.id >= 0) {
      out.push_back(c.id);
    } else if (spelled(text)) {
      for (const char byte : text) out.push_back(byte_ids[static_cast<uint8_t>(byte)]);
    } else {
      check(unk >= 0, Code::input, "[tokenizer] '", text,
            "' is not in the vocabulary and there is no unknown token");
      out.push_back(unk);
    }
  }
}

void Unigram::ends_of(std::string_view piece, const int32_t*, size_t, std::vector<size_t>& ends) const {
  for (const Cut& c : cut(piece)) {
    if (c.id < 0 && spelled(piece.substr(c.begin, c.end - c.begin)))
      for (size_t i = c.begin; i + 1 < c.end; ++i) ends.push_back(i + 1);
    ends.push_back(c.end);
  }
}

}  // namespace llmctl
