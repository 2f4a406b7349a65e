// SPDX-License-Identifier: Apache-2.0
// Which language a text is in, by Compact Language Detector 2 (Debian's libcld2-0), which is opened when
// the first identifier is made and never linked: llmctl starts without it.
#pragma once

#include <string>
#include <string_view>

namespace llmctl {

struct LanguageGuess {
  std::string code = "un";   // as CLD2 says it: ISO 639-1 where there is one ("en", "zh-Hant"); "un" unknown
  double score = 0;          // 0..1: the share of the text's letters in that language
  bool is_reliable = false;  // CLD2's own word: clearly ahead of the next language
};

class LanguageIdentifier {
 public:
  // Error{unsupported} saying what to install when the library is not there.
  LanguageIdentifier();
  static bool available();
  // `text` is plain UTF-8; up to `max_bytes` of it are looked at (cut between code points); text that is
  // not UTF-8 is "un". Any number of threads.
  LanguageGuess identify(std::string_view text, size_t max_bytes = size_t{1} << 20) const;
};

}  // namespace llmctl
