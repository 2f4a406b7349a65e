// SPDX-License-Identifier: Apache-2.0
// Text made from other text step by step, with for each byte the range of the first text that it
// stands for: what offsets of tokens are told from. Without `aligned` it is only the text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace llmctl {

struct Origin {
  size_t begin = 0, end = 0;  // bytes of the first text; equal: inserted there
};

struct AlignedText {
  std::string text;
  bool aligned = false;
  std::vector<Origin> origins;  // by byte of text, when aligned
  size_t end = 0;               // where the first text ends

  AlignedText() = default;
  // The text itself: every byte stands for itself. `at`: its place in a larger first text.
  AlignedText(std::string_view whole, bool with_origins, size_t at = 0);
  // What text[from, to) stands for; when they are equal the place before text[from].
  Origin origin_of(size_t from, size_t to) const;
};

// One step: call keep() and put() in order of the old text, then take() the new one.
class Rewrite {
 public:
  explicit Rewrite(const AlignedText& old) : old_(old) { next_.text.reserve(old.text.size() + 16); }
  void keep(size_t begin, size_t end);                         // old[begin, end) as it is
  void put(std::string_view bytes, size_t begin, size_t end);  // stands for old[begin, end)
  AlignedText take();

 private:
  const AlignedText& old_;
  AlignedText next_;
};

}  // namespace llmctl
