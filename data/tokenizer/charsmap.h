// SPDX-License-Identifier: Apache-2.0
// SentencePiece's precompiled normalization map (normalizer.proto, precompiled_charsmap): u32 size of a
// double-array trie, its u32 units, then the replacements, each ended by a zero byte.
// Threads: const after construction.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llmctl {

class Charsmap {
 public:
  Charsmap() = default;
  explicit Charsmap(std::string_view bytes);  // Error{input}
  struct Hit {
    size_t size;            // bytes of text replaced, at least 1
    std::string_view with;  // valid as long as the map
  };
  // The rule for the shortest (as Hugging Face looks it up) or longest (as sentencepiece does)
  // beginning of `text` that has one.
  std::optional<Hit> find(std::string_view text, bool longest) const;

 private:
  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace llmctl
