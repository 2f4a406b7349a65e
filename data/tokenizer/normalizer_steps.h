// SPDX-License-Identifier: Apache-2.0
// The single steps a Normalizer is made of. Internal to the tokenizer.
#pragma once

#include <string>
#include <string_view>

#include "data/text/rewrite.h"
#include "data/text/utf8.h"
#include "data/tokenizer/charsmap.h"
#include "data/tokenizer/split_regex.h"

namespace llmctl {

AlignedText replace_literal(const AlignedText& text, const std::string& from, const std::string& to);
AlignedText replace_regex(const AlignedText& text, const SplitRegex& regex, const std::string& to);
AlignedText prepend(const AlignedText& text, const std::string& what);  // an empty text stays empty
AlignedText strip_spaces(const AlignedText& text, bool left, bool right);
AlignedText strip_accents(const AlignedText& text);  // combining marks of every kind
AlignedText lowercase(const AlignedText& text);      // code point by code point
AlignedText spell_byte_level(const AlignedText& text);
AlignedText nmt(const AlignedText& text);  // controls out, odd spaces to a space
AlignedText charsmap_by_graphemes(const AlignedText& text, const Charsmap& map);

struct BertOptions {
  bool clean_text = true, handle_chinese_chars = true, strip_accents = true, lowercase = true;
};
AlignedText bert(const AlignedText& text, const BertOptions& options);

// Calls visit(point, begin, end) for every code point or stray byte.
template <class Visit>
void for_each_point(std::string_view text, const Visit& visit) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    const size_t end = at + (point.kind == CodePoint::Kind::valid ? point.bytes : 1);
    visit(point, at, end);
    at = end;
  }
}

}  // namespace llmctl
