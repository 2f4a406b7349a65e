// SPDX-License-Identifier: Apache-2.0
// The signals that presets judge, each a function of a text (valid UTF-8) and its words. Definitions follow
// datatrove's filters, which made FineWeb; a ratio whose denominator is 0 is NaN, which no rule drops.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/quality/words.h"

namespace llmctl {

// Gopher's repetition rules (Rae et al. 2021, arXiv 2112.11446, table A1). Lines are parted by runs of \n,
// paragraphs by runs of two or more in the text without white space at its ends. The characters of an
// n-gram that is counted as top include one space between words and are multiplied by its count, 1
// included; duplicate n-grams are counted from the left, without overlaps, joined without spaces.
struct Repetition {
  double chars = 0;  // of the text
  double dup_para_frac = 0, dup_para_char_frac = 0, dup_line_frac = 0, dup_line_char_frac = 0;
  std::array<double, 3> top{};        // 2, 3, 4
  std::array<double, 6> duplicate{};  // 5 to 10
};
Repetition repetition_of(std::string_view text, uint64_t chars, const std::vector<Word>& words);

struct GopherOptions {
  bool unique_stop_words = true;  // else every occurrence counts (DCLM, Dolma)
  bool asterisk_bullets = false;  // U+2022 and -; with * too (DCLM, Dolma)
};
// Gopher's quality rules.
struct GopherQuality {
  double words = 0;  // with something outside the punctuation set
  double mean_word_length = 0;
  double hash_ratio = 0, ellipsis_ratio = 0;  // to all words
  double bullet_lines = 0, ellipsis_lines = 0;
  double alpha_words = 0;
  double stop_words = 0;
};
GopherQuality gopher_quality_of(std::string_view text, const std::vector<Word>& words,
                                const GopherOptions& options);

// FineWeb's own rules; lines are parted by \n, blank ones left out.
struct FineWebSignals {
  double lines = 0;
  double line_punct = 0;     // share of lines that end with a terminal mark
  double short_lines = 0;    // of at most short_line_length characters
  double char_dup = 0;       // characters of repeated lines to characters without \n
  double newline_ratio = 0;  // \n to words
};
FineWebSignals fineweb_of(std::string_view text, uint64_t words, uint64_t short_line_length);

// C4 (Raffel et al. 2020): drops lines and counts why; each line falls to the first reason in this order.
struct C4Options {
  int64_t max_word_length = 1000;  // below 0: no such rule, as for the others
  bool remove_citations = true;    // [1], [], [edit], [citation needed]
  bool terminal_punctuation = true;
  int64_t min_words_per_line = 3;
  bool drop_javascript = true, drop_policy = true;
};
struct C4Signals {
  double lines = 0, kept = 0, long_words = 0, no_terminal = 0, few_words = 0, javascript = 0, policy = 0;
  double lorem_ipsum = 0,
         curly_bracket = 0;  // lines that hold it and were not dropped before for one above few_words
  double sentences = 0;
  uint64_t words = 0;  // of the edited text, by WordRule::marks
};
C4Signals apply_c4(std::string_view text, const C4Options& options, std::string& edited);

// RefinedWeb's line rules (Penedo et al. 2023, arXiv 2306.01116, table G.2; figures as DCLM runs them).
struct LineOptions {
  double max_upper = 0.5;         // share of characters that are capitals
  double max_numeric = 0.999999;  // share that are digits
  bool drop_counters = true;      // "3 likes"
  int64_t min_words = 2;
  int64_t max_edit_words =
      10;  // "items in cart", ending "Read more...", leading "Sign-in" go from lines up to this
  int64_t max_newlines = 2;  // longer runs are cut
};
struct LineSignals {
  double lines = 0, kept = 0;
  double removed_words = 0;  // share of words that went
};
LineSignals apply_line_rules(std::string_view text, const LineOptions& options, std::string& edited);

// A hash table of 64-bit keys for one document after another.
class SeenSet {
 public:
  void reset(size_t keys);  // empties; room for so many
  // Where the key is; `added` when it was not there.
  size_t place(uint64_t key, bool& added) {
    key += key == 0;
    for (size_t i = mix_hash(key) & mask_;; i = (i + 1) & mask_) {
      if (slots_[i] == key) return added = false, i;
      if (slots_[i] == 0) return slots_[i] = key, added = true, i;
    }
  }
  bool add(uint64_t key) {
    bool added = false;
    place(key, added);
    return added;
  }
  size_t slots() const { return mask_ + 1; }

 private:
  std::vector<uint64_t> slots_;
  size_t mask_ = 0;
};

}  // namespace llmctl
