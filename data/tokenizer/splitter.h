// SPDX-License-Identifier: Apache-2.0
// Hand-built splitters for the patterns in use: the same pieces as their regular expressions give in
// tiktoken and Hugging Face tokenizers (Unicode 16, code_point_class.h), in time linear in the text
// whatever it holds. Stretches of ASCII are cut 64 bytes at a time (kernels/split_ascii.h), the rest one
// piece at a time. Every byte falls into exactly one piece; a byte that is no UTF-8 counts as U+FFFD.
// Threads: const after construction.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/split_ascii.h"
#include "data/text/code_point_class.h"
#include "kernels/exec.h"

namespace llmctl {

enum class SplitFamily : uint8_t {
  gpt2,       // and r50k, p50k
  cl100k,     // Hugging Face's form, llama3, glm4, olmo2: digits by three
  tiktoken,   // cl100k as tiktoken has it: white space that ends the text is one piece
  qwen2,      // cl100k, digits one by one
  nanochat,   // cl100k, digits by two
  qwen35,     // qwen2, combining marks count as letters
  o200k,      // words cut at changes of case, contractions at their end
  tekken,     // o200k without contractions, digits one by one
  starcoder,  // digits isolated, then gpt2
  deepseek3,  // three splits in sequence
};
const char* name_of(SplitFamily family);

// The family whose pattern this is, word for word as in tiktoken or in published tokenizer.json files.
std::optional<SplitFamily> family_of(const std::string& pattern);
// deepseek-v3's three patterns, in order.
std::vector<std::string> deepseek_patterns();

class Splitter {
 public:
  // isa: of the ASCII windows; the pieces do not depend on it.
  explicit Splitter(SplitFamily family, kn::Isa isa = kn::supported_isas().front());
  SplitFamily family() const { return family_; }

  // Where pieces end, from `at`, where one begins, until `ends` is about full or the text is done. Ends
  // count from text.data() + at. `ends` has room for kBatch + 8. Returns how many; at least one unless
  // the text is done.
  static constexpr size_t kBatch = 512;
  size_t cut(std::string_view text, size_t at, uint32_t* ends) const;

 private:
  using OnePiece = size_t (*)(const CharClassTable&, const uint8_t* text, size_t size, size_t at);
  SplitFamily family_;
  OnePiece one_piece_;
  AsciiCutter windows_;
  const CharClassTable* classes_;
};

}  // namespace llmctl
