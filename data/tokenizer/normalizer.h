// SPDX-License-Identifier: Apache-2.0
// What a tokenizer file asks to do to text before it is cut: every normalizer of Hugging Face's
// tokenizers 0.23 with its meaning there (Sequence, NFC, NFD, NFKC, NFKD, Replace, Prepend, Strip,
// StripAccents, Lowercase, Precompiled, ByteLevel, BertNormalizer, Nmt), and sentencepiece's own. Any
// other one is Error{unsupported} by name. Bytes that are no UTF-8 pass through.
// Threads: const after construction.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"
#include "data/text/rewrite.h"

namespace llmctl {

struct SentencePieceRules;

class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(const Json& json);  // null, or the file's "normalizer"
  explicit Normalizer(const SentencePieceRules& rules);
  bool empty() const { return steps_.empty(); }
  std::string apply(std::string_view text) const;
  AlignedText apply(AlignedText text) const;

 private:
  using Step = std::function<AlignedText(const AlignedText&)>;
  void add(const Json& json, int depth);
  std::vector<Step> steps_;
};

// Every occurrence of `from` (not empty), left to right.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

}  // namespace llmctl
