// SPDX-License-Identifier: Apache-2.0
// Bytes of a page or file into UTF-8, by the rule in ingest.h.
#pragma once

#include <string>
#include <string_view>

namespace llmctl {

struct Decoded {
  std::string text;              // UTF-8, without a byte order mark
  bool invalid = false;          // some bytes became U+FFFD
  bool unknown_charset = false;  // a charset was named that nobody here knows
};

// `declared`: of the HTTP header, "" for none; `html`: look for <meta charset> as well.
Decoded decode_text(std::string_view bytes, std::string_view declared, bool html);

// The text with U+FFFD in place of what is not UTF-8 (one for each longest valid beginning); true when
// there was any.
bool mend_utf8(std::string& text);

// The value of "charset" in a Content-Type; "" when it has none.
std::string charset_parameter(std::string_view content_type);

}  // namespace llmctl
