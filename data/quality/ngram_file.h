// SPDX-License-Identifier: Apache-2.0
// The model file: a trie over reversed n-grams, so that a word's walk back through its context finds the
// longest n-gram that is known. Little-endian.
//
//   header    NgramHeader, then a JSON object of `json_bytes`: {"order", "unit", "ngrams": [..], "words"}
//   body      for n = 1 to order: ngrams[n] + 1 NgramNodes, those of one parent side by side by word; node
//             i's children are nodes [child of i, child of i + 1) of the next order. Unigram i is word i + 1.
//             then words x {u64 hash, u32 id, u32 0} by hash, words + 1 x u64 offsets, the words' bytes
// The digest (XXH3-128) is of JSON and body.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/base/digest.h"
#include "core/base/json.h"
#include "data/quality/ngram.h"
#include "data/quality/row_sort.h"

namespace llmctl {

constexpr uint32_t kNoWord = 0, kUnknownWord = 1, kBeginWord = 2, kEndWord = 3;
constexpr int kMaxOrder = 8;

struct NgramHeader {
  char magic[8] = {'L', 'L', 'M', 'N', 'G', 'R', 'A', 'M'};
  uint32_t version = 1, json_bytes = 0;
  uint64_t digest_low = 0, digest_high = 0;
};

struct NgramNode {
  uint32_t word = 0;
  float log10_prob = 0, log10_backoff = 0;
  uint32_t child_low = 0, child_high = 0;
  uint64_t child() const { return child_low | uint64_t{child_high} << 32; }
};
static_assert(sizeof(NgramNode) == 20);

// Words in the order of their first sight, from 4; markers below.
class NgramVocabulary {
 public:
  NgramVocabulary();
  uint32_t add(std::string_view word);
  const std::vector<std::string>& words() const { return words_; }  // by id - 1

 private:
  std::vector<std::string> words_;
  std::unordered_map<std::string, uint32_t> ids_;
};

// Calls token(std::string_view) for each token of a line: words, or two hexadecimal digits a byte.
template <class F>
void for_each_token(std::string_view line, NgramUnit unit, F&& token) {
  constexpr char kHex[] = "0123456789abcdef";
  if (unit == NgramUnit::bytes) {
    for (const char c : line) {
      const auto b = static_cast<uint8_t>(c);
      const char digits[2] = {kHex[b >> 4], kHex[b & 15]};
      token(std::string_view(digits, 2));
    }
    return;
  }
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\0'; };
  for (size_t i = 0; i < line.size();) {
    size_t end = i;
    while (end < line.size() && !is_space(line[end])) ++end;
    if (end > i) token(line.substr(i, end - i));
    i = end + 1;
  }
}

// Calls line(std::string_view) for each line that holds a token.
template <class F>
void for_each_sentence(std::string_view text, F&& line) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view one = text.substr(begin, end - begin);
    if (one.find_first_not_of(std::string_view(" \t\r\0", 4)) != std::string_view::npos) line(one);
    begin = end + 1;
  }
}

// Takes nodes in preorder (a node before its children, siblings by word) and writes the file.
class NgramWriter {
 public:
  NgramWriter(fs::path scratch, int order, NgramUnit unit);
  ~NgramWriter();
  void add(int n, uint32_t word, float log10_prob, float log10_backoff);
  void finish(const NgramVocabulary& vocabulary, const fs::path& model, bool overwrite);

 private:
  fs::path file_of(int n) const;
  fs::path scratch_;
  int order_;
  NgramUnit unit_;
  std::vector<std::FILE*> files_;
  std::vector<uint64_t> counts_;
};

// Walks sorted streams of n-grams (reversed, one stream an order) in preorder: visit(n, row). Error{input}
// for an n-gram whose last n - 1 words are none of the model.
template <class F>
void walk_orders(std::vector<std::unique_ptr<RowSorter>>& orders, F&& visit) {
  std::vector<bool> has(orders.size());
  for (size_t n = 0; n < orders.size(); ++n) {
    orders[n]->rewind();
    has[n] = orders[n]->next();
  }
  const auto below = [&](auto&& self, size_t n, const uint32_t* parent) -> void {
    while (n < orders.size() && has[n] && std::equal(parent, parent + n, orders[n]->row())) {
      const uint32_t* row = orders[n]->row();
      visit(static_cast<int>(n) + 1, row);
      self(self, n + 1, row);
      has[n] = orders[n]->next();
    }
  };
  const uint32_t none = 0;
  below(below, 0, &none);
  for (size_t n = 0; n < orders.size(); ++n)
    check(!has[n], Code::input, "[ngram] a ", n + 1, "-gram without its last ", n, " words");
}

}  // namespace llmctl
