// SPDX-License-Identifier: Apache-2.0
#include "data/web/language.h"

#include <algorithm>

#include "data/text/utf8.h"
#include "data/web/cld2_library.h"
#include "kernels/error.h"

namespace llmctl {

bool LanguageIdentifier::available() {
  return cld2::library() != nullptr;
}

LanguageIdentifier::LanguageIdentifier() {
  check(available(), Code::unsupported,
        "[language] libcld2.so.0 is not on this machine: install it (Debian: apt-get install libcld2-0) or "
        "leave the language stage out");
}

LanguageGuess LanguageIdentifier::identify(std::string_view text, size_t max_bytes) const {
  constexpr size_t kMost = size_t{1} << 30;  // the library counts in int
  size_t size = std::min({text.size(), max_bytes, kMost});
  while (size > 0 && size < text.size() && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) --size;
  text = text.substr(0, size);
  LanguageGuess guess;
  if (text.empty() || !is_utf8(text)) return guess;
  int language[3] = {0, 0, 0}, percent[3] = {0, 0, 0}, letters = 0;
  bool is_reliable = false;
  cld2::library()->detect(text.data(), static_cast<int>(text.size()), true, language, percent, &letters,
                          &is_reliable);
  if (percent[0] == 0) return guess;
  guess.code = cld2::library()->code(language[0]);
  if (guess.code == "iw") guess.code = "he";  // ISO 639-1 renamed two of CLD2's codes in 1989
  if (guess.code == "jw") guess.code = "jv";
  guess.score = percent[0] / 100.0;
  guess.is_reliable = is_reliable;
  return guess;
}

}  // namespace llmctl
