// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "data/quality/signals.h"
#include "data/quality/text_lines.h"
#include "data/text/char_class.h"

namespace llmctl {
namespace {

double ratio(double a, double b) {
  return b > 0 ? a / b : std::numeric_limits<double>::quiet_NaN();
}

struct Duplicates {
  uint64_t pieces = 0, repeated = 0, repeated_chars = 0;
};

// Pieces of `text` parted by runs of at least `least` newlines (lines of one are parted by any run).
Duplicates duplicate_pieces(std::string_view text, size_t least, SeenSet& seen) {
  Duplicates d;
  seen.reset(64);
  size_t room = 32, begin = 0;
  std::vector<uint64_t> keys;
  const auto piece = [&](size_t end) {
    const std::string_view s = text.substr(begin, end - begin);
    const uint64_t key = hash_bytes(s);
    keys.push_back(key);
    if (keys.size() > room) {  // grows by filling again
      room *= 4;
      seen.reset(2 * room);
      for (size_t i = 0; i + 1 < keys.size(); ++i) seen.add(keys[i]);
    }
    if (seen.add(key)) return;
    ++d.repeated;
    d.repeated_chars += count_code_points(s);
  };
  for (size_t at = text.find('\n'); at != std::string_view::npos; at = text.find('\n', at)) {
    size_t stop = at;
    while (stop < text.size() && text[stop] == '\n') ++stop;
    if (stop - at >= least) {
      piece(at);
      begin = stop;
    }
    at = stop;
  }
  piece(text.size());
  d.pieces = keys.size();
  return d;
}

// Characters of the most frequent n-gram, the earliest among equals, times its count; 0 without n-grams.
struct TopCounter {
  SeenSet seen;
  std::vector<uint32_t> counts, first;

  uint64_t chars(const std::vector<Word>& words, size_t n) {
    if (words.size() < n) return 0;
    const size_t grams = words.size() - n + 1;
    seen.reset(grams);
    if (counts.size() < seen.slots()) {
      counts.resize(seen.slots());
      first.resize(seen.slots());
    }
    uint32_t best = 0, at = 0;
    for (size_t i = 0; i < grams; ++i) {
      uint64_t key = 0;
      for (size_t k = 0; k < n; ++k) key = (key + words[i + k].hash) * 0xD6E8FEB86659FD93ull + 1;
      bool added = false;
      const size_t slot = seen.place(key, added);
      if (added) {
        counts[slot] = 0;
        first[slot] = static_cast<uint32_t>(i);
      }
      const uint32_t count = ++counts[slot];
      if (count > best || (count == best && first[slot] < at)) {
        best = count;
        at = first[slot];
      }
    }
    uint64_t length = n - 1;
    for (size_t k = 0; k < n; ++k) length += words[at + k].chars;
    return length * best;
  }
};

struct Joined {
  std::vector<uint64_t> hash, bytes, chars;  // of the first i words, joined

  explicit Joined(const std::vector<Word>& words) {
    hash.resize(words.size() + 1);
    bytes.resize(words.size() + 1);
    chars.resize(words.size() + 1);
    for (size_t i = 0; i < words.size(); ++i) {
      const uint64_t length = words[i].end - words[i].begin;
      hash[i + 1] = hash[i] * hash_power(length) + words[i].hash;
      bytes[i + 1] = bytes[i] + length;
      chars[i + 1] = chars[i] + words[i].chars;
    }
  }
  uint64_t key(size_t i, size_t j) const { return hash[j] - hash[i] * hash_power(bytes[j] - bytes[i]); }
};

uint64_t duplicate_chars(const Joined& joined, size_t words, size_t n, SeenSet& seen) {
  if (words < n) return 0;
  seen.reset(words - n + 1);
  uint64_t chars = 0;
  for (size_t i = 0; i + n <= words;) {
    if (seen.add(joined.key(i, i + n))) {
      ++i;
    } else {
      chars += joined.chars[i + n] - joined.chars[i];
      i += n;
    }
  }
  return chars;
}

}  // namespace

void SeenSet::reset(size_t keys) {
  size_t slots = 64;
  while (slots < 2 * keys) slots *= 2;
  slots_.assign(slots, 0);
  mask_ = slots - 1;
}

Repetition repetition_of(std::string_view text, uint64_t chars, const std::vector<Word>& words) {
  Repetition r;
  SeenSet seen;
  const double all = static_cast<double>(chars);
  r.chars = all;
  const Duplicates paragraphs = duplicate_pieces(strip(text), 2, seen);
  r.dup_para_frac = ratio(static_cast<double>(paragraphs.repeated), static_cast<double>(paragraphs.pieces));
  r.dup_para_char_frac = ratio(static_cast<double>(paragraphs.repeated_chars), all);
  const Duplicates lines = duplicate_pieces(text, 1, seen);
  r.dup_line_frac = ratio(static_cast<double>(lines.repeated), static_cast<double>(lines.pieces));
  r.dup_line_char_frac = ratio(static_cast<double>(lines.repeated_chars), all);
  TopCounter counter;
  for (size_t n = 2; n <= 4; ++n) r.top[n - 2] = ratio(static_cast<double>(counter.chars(words, n)), all);
  const Joined joined(words);
  for (size_t n = 5; n <= 10; ++n)
    r.duplicate[n - 5] = ratio(static_cast<double>(duplicate_chars(joined, words.size(), n, seen)), all);
  return r;
}

}  // namespace llmctl
