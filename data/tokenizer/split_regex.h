// SPDX-License-Identifier: Apache-2.0
// The regular expressions that cut text into pieces before BPE, run by PCRE2 (UTF, Unicode
// properties, JIT, limits). Patterns are written for Oniguruma or fancy-regex in the files; what
// means something else in PCRE2 is translated (\s) or refused by name (&& in a class, \h).
// Bytes that are no UTF-8 count as U+FFFD each for the pattern, and stay as they are in the pieces.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace llmctl {

struct Range {
  size_t begin = 0, end = 0;  // bytes
};

class SplitRegex {
 public:
  explicit SplitRegex(const std::string& pattern);  // Error{unsupported}
  // Appends every non-empty match in order. Error{input} when PCRE2 reaches its limits.
  // Threads: may be called from many at once.
  void find(std::string_view text, std::vector<Range>& out) const;
  bool matches_empty() const;  // somewhere, if find() took empty matches

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

// The pattern of `--pattern NAME`: gpt2, cl100k, o200k, llama3, qwen2; "" for none. Error{usage}
// names the choices.
std::string named_pattern(const std::string& name);

}  // namespace llmctl
