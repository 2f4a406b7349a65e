// SPDX-License-Identifier: Apache-2.0
// Tokens that stand beside the model's vocabulary and are looked for in the text before anything
// else: leftmost, longest first, as Hugging Face's AddedVocabulary does. Special ones match only when
// asked to; otherwise the text they cover stays text.
// Threads: const after construction.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace llmctl {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool special = false, normalized = false;
  bool lstrip = false, rstrip = false;  // the match takes the white space beside it
  bool single_word = false;             // no match beside a letter, digit, mark or connector
};

// A stretch of text that is one token (id >= 0) or none (id -1).
struct Section {
  size_t begin = 0, end = 0;
  int32_t id = -1;
};

class AddedTokenFinder {
 public:
  AddedTokenFinder();
  // `spelling` is what is looked for: the content, or its normalized form.
  void add(const AddedToken& token, const std::string& spelling);
  bool empty() const { return tokens_.empty(); }
  // Nothing can be found: there is no token, or only special ones and they are not asked for.
  bool idle(bool special) const { return tokens_.empty() || (all_special_ && !special); }
  std::vector<Section> split(std::string_view text, bool special) const;

 private:
  struct Node {
    std::map<uint8_t, uint32_t> next;
    int32_t token = -1;  // index into tokens_
  };
  struct Hit {
    size_t end = 0;
    int32_t token = -1;
  };
  Hit longest_at(std::string_view text, size_t at) const;
  std::vector<Node> nodes_;
  std::array<bool, 256> starts_{};
  std::vector<uint8_t> start_bytes_;  // the same as a list
  bool all_special_ = true;
  std::vector<AddedToken> tokens_;
};

}  // namespace llmctl
