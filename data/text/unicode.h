// SPDX-License-Identifier: Apache-2.0
// Unicode normalization forms (Unicode Standard Annex 15) and properties of code points, by utf8proc
// and its version of Unicode. Bytes that are no UTF-8 pass through and separate what stands around
// them. Time is n log n in the longest run of combining marks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/text/rewrite.h"

namespace llmctl {

enum class UnicodeForm { nfc, nfd, nfkc, nfkd };
// v9: what came after Unicode 9.0 stays as it is and is no mark, as in Hugging Face's tokenizers (the
// tables of its crate unicode-normalization-alignments), whose ids depend on it.
enum class UnicodeTables { current, v9 };

std::string normalize(UnicodeForm form, std::string_view text, UnicodeTables tables = UnicodeTables::current);
AlignedText normalize(UnicodeForm form, const AlignedText& text, UnicodeTables tables);

enum class MarkKind { none, nonspacing, spacing, enclosing };
MarkKind mark_kind(char32_t value);   // Mn, Mc, Me
bool is_punctuation(char32_t value);  // P*
bool is_word_part(char32_t value);    // \w of Annex 18: alphabetic, mark, digit, connector, joiner
bool is_other(char32_t value);        // C*: control, format, private use, unassigned
char32_t to_lower(char32_t value);    // the simple mapping, one code point to one
std::string unicode_version();        // of these tables: "15.0.0"
// Extended grapheme clusters (Unicode Standard Annex 29): the ends of all in a valid UTF-8 text.
std::vector<size_t> grapheme_ends(std::string_view text);

}  // namespace llmctl
