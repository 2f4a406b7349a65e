// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "data/quality/signals.h"
#include "data/quality/text_lines.h"
#include "data/text/char_class.h"

namespace llmctl {
namespace {

constexpr std::string_view kStopWords[] = {"the", "be", "to", "of", "and", "that", "have", "with"};
constexpr std::string_view kEllipsis = "\xE2\x80\xA6", kBullet = "\xE2\x80\xA2";

double ratio(uint64_t a, uint64_t b) {
  return b > 0 ? static_cast<double>(a) / static_cast<double>(b) : std::numeric_limits<double>::quiet_NaN();
}

// Index in kStopWords, or -1.
int stop_word(std::string_view word) {
  if (word.size() < 2 || word.size() > 4) return -1;
  for (int i = 0; i < 8; ++i)
    if (kStopWords[i] == word) return i;
  return -1;
}

}  // namespace

GopherQuality gopher_quality_of(std::string_view text, const std::vector<Word>& words,
                                const GopherOptions& options) {
  uint64_t counted = 0, chars = 0, alpha = 0, stops = 0;
  unsigned seen = 0;
  for (const Word& w : words) {
    alpha += w.alpha;
    if (!w.symbol) {
      ++counted;
      chars += w.chars;
    }
    if (w.chars > 4) continue;
    const int stop = stop_word(text.substr(w.begin, w.end - w.begin));
    if (stop < 0) continue;
    ++stops;
    seen |= 1u << stop;
  }
  uint64_t lines = 0, bullets = 0, ellipses = 0;
  for_each_line(text, [&](std::string_view line) {
    ++lines;
    const std::string_view left = strip_left(line), right = strip_right(line);
    bullets += left.starts_with(kBullet) || left.starts_with('-') ||
               (options.asterisk_bullets && left.starts_with('*'));
    ellipses += right.ends_with("...") || right.ends_with(kEllipsis);
  });
  GopherQuality q;
  q.words = static_cast<double>(counted);
  q.mean_word_length = ratio(chars, counted);
  q.hash_ratio = ratio(count_of(text, "#"), words.size());
  q.ellipsis_ratio = ratio(count_of(text, "...") + count_of(text, kEllipsis), words.size());
  q.bullet_lines = ratio(bullets, lines);
  q.ellipsis_lines = ratio(ellipses, lines);
  q.alpha_words = ratio(alpha, words.size());
  q.stop_words = options.unique_stop_words ? __builtin_popcount(seen) : static_cast<double>(stops);
  return q;
}

FineWebSignals fineweb_of(std::string_view text, uint64_t words, uint64_t short_line_length) {
  FineWebSignals f;
  SeenSet seen;
  uint64_t lines = 0, ended = 0, shorts = 0, repeated_chars = 0, newlines = count_of(text, "\n");
  seen.reset(newlines + 1);
  const uint64_t chars = count_code_points(text) - newlines;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    if (strip_left(line).empty()) continue;
    ++lines;
    ended += (last_class(line) & kTerminal) != 0;
    const bool repeated = !seen.add(hash_bytes(line));
    if (!repeated && line.size() > 4 * short_line_length) continue;
    const uint64_t length = count_code_points(line);
    shorts += length <= short_line_length;
    if (repeated) repeated_chars += length;
  }
  f.lines = static_cast<double>(lines);
  f.line_punct = ratio(ended, lines);
  f.short_lines = ratio(shorts, lines);
  f.char_dup = ratio(repeated_chars, chars);
  f.newline_ratio = ratio(newlines, words);
  return f;
}

}  // namespace llmctl
