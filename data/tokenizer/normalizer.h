// SPDX-License-Identifier: Apache-2.0
// What a tokenizer file asks to do to text before it is cut: Prepend, Replace of a literal, NFC, and
// sequences of them. Any other normalizer is Error{unsupported} by name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"

namespace llmctl {

class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(const Json& json);  // null, or the file's "normalizer"
  bool empty() const { return steps_.empty(); }
  std::string apply(std::string_view text) const;

 private:
  struct Step {
    enum class Kind { prepend, replace, nfc } kind;
    std::string from, to;
  };
  void add(const Json& json, int depth);
  std::vector<Step> steps_;
};

// Every occurrence of `from` (not empty), left to right.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

}  // namespace llmctl
