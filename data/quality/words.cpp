// SPDX-License-Identifier: Apache-2.0
#include "data/quality/words.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "data/text/char_class.h"

namespace llmctl {
namespace {

constexpr size_t kPowers = 256;
constexpr std::array<uint64_t, kPowers> kPower = [] {
  std::array<uint64_t, kPowers> p{};
  p[0] = 1;
  for (size_t i = 1; i < kPowers; ++i) p[i] = p[i - 1] * kHashBase;
  return p;
}();

// Sorted. Words that keep their full stop.
constexpr std::string_view kAbbreviations[] = {
    "Adm.", "Apr.", "Aug.", "Bros.", "Co.",   "Corp.", "Dec.", "Dr.",     "Feb.", "Gen.",  "Gov.",
    "Inc.", "Jan.", "Jr.",  "Jul.",  "Jun.",  "Ltd.",  "Mar.", "Messrs.", "Mr.",  "Mrs.",  "Ms.",
    "Mt.",  "Nov.", "Oct.", "Ph.D.", "Prof.", "Rep.",  "Rev.", "Sen.",    "Sep.", "Sept.", "St.",
    "a.m.", "e.g.", "etc.", "i.e.",  "p.m.",  "v.",    "v.s.", "vs."};
constexpr std::string_view kEndings[] = {"'s", "n't", "'ll", "'re", "'ve", "'d", "'m"};

struct Splitter {
  std::string_view text;
  std::vector<Word>& words;

  uint8_t byte(size_t i) const { return static_cast<uint8_t>(text[i]); }
  uint8_t class_at(size_t i) const {
    const uint8_t c = byte(i);
    return c < 0x80 ? kAsciiClass[c] : char_class(next_code_point(text, i));
  }
  size_t after(size_t i) const {
    const uint8_t c = byte(i);
    return i + (c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4);
  }
  size_t before(size_t i) const {
    do --i;
    while ((byte(i) & 0xC0) == 0x80);
    return i;
  }

  void emit(size_t begin, size_t end) {
    if (begin == end) return;
    Word w;
    w.begin = static_cast<uint32_t>(begin);
    w.end = static_cast<uint32_t>(end);
    uint8_t any = 0, all = 0xFF;
    for (size_t i = begin; i < end;) {
      const uint8_t c = byte(i);
      uint8_t bits;
      if (c < 0x80) {
        bits = kAsciiClass[c];
        w.hash = w.hash * kHashBase + c + 1;
        ++i;
      } else {
        const size_t from = i;
        bits = char_class(next_code_point(text, i));
        for (size_t k = from; k < i; ++k) w.hash = w.hash * kHashBase + byte(k) + 1;
      }
      any |= bits;
      all &= bits;
      ++w.chars;
    }
    w.alpha = (any & kAlpha) != 0;
    w.symbol = (all & kSymbol) != 0;
    w.punctuation = (all & kPunctuation) != 0;
    w.terminal = w.chars == 1 && (any & kTerminal) != 0;
    words.push_back(w);
  }

  // Bytes of `ending` when [begin, end) ends with it in either case, its apostrophe typewritten or
  // typographic (three bytes), and holds more; 0 otherwise.
  size_t ending_bytes(size_t begin, size_t end, std::string_view ending) const {
    size_t i = end;
    for (size_t k = ending.size(); k-- > 0;) {
      if (ending[k] != '\'') {
        if (i == begin || (byte(i - 1) | 0x20) != static_cast<uint8_t>(ending[k])) return 0;
        --i;
      } else if (i > begin && byte(i - 1) == '\'') {
        --i;
      } else if (i >= begin + 3 && text.substr(i - 3, 3) == "\xE2\x80\x99") {
        i -= 3;
      } else {
        return 0;
      }
    }
    return i > begin ? end - i : 0;
  }
  size_t contraction_bytes(size_t begin, size_t end) const {
    for (const std::string_view ending : kEndings)
      if (const size_t bytes = ending_bytes(begin, end, ending); bytes != 0) return bytes;
    return 0;
  }

  bool is_link(size_t begin, size_t end) const {
    const std::string_view chunk = text.substr(begin, end - begin);
    if (chunk.find("://") != std::string_view::npos || chunk.substr(0, 4) == "www.") return true;
    const size_t at = chunk.find('@');
    return at != std::string_view::npos && at > 0 && chunk.find('.', at + 2) != std::string_view::npos &&
           chunk.back() != '.';
  }

  size_t dots_from(size_t i, size_t end) const {
    while (i < end && byte(i) == '.') ++i;
    return i;
  }

  // Takes marks off the front; returns where the rest begins.
  size_t take_front(size_t begin, size_t end) {
    while (begin < end) {
      size_t next = begin;
      if (byte(begin) == '.') {
        next = dots_from(begin, end);
        if (next - begin < 2 && next != end) break;
      } else if ((class_at(begin) & kMark) != 0) {
        next = after(begin);
      } else {
        break;
      }
      emit(begin, next);
      begin = next;
    }
    return begin;
  }

  // Where the last piece of [begin, end) begins when something comes off its end; end for nothing.
  size_t last_piece(size_t begin, size_t end) const {
    const size_t last = before(end);
    const uint8_t bits = class_at(last);
    if (byte(last) == '.') {
      size_t from = end;
      while (from > begin && byte(from - 1) == '.') --from;
      if (end - from >= 2) return from;
      if (last == begin) return end;
      const std::string_view piece = text.substr(begin, end - begin);
      if (std::binary_search(std::begin(kAbbreviations), std::end(kAbbreviations), piece)) return end;
      const size_t left = before(last);
      const uint8_t l = class_at(left);
      if ((l & kUpper) != 0)  // an initial keeps its stop, a word of capitals does not
        return left > begin && (class_at(before(left)) & kUpper) != 0 ? last : end;
      const bool inner = (l & kAlpha) != 0 && piece.substr(0, piece.size() - 1).find('.') != piece.npos;
      return inner && left > begin && byte(left - 1) == '.' ? end : last;  // i.e., p.m.
    }
    if ((bits & kMark) != 0) return last;
    return end - contraction_bytes(begin, end);
  }

  // Whether the code point at i, between others, parts a word; `stop` is set past the cutting piece.
  bool cuts(size_t i, size_t end, size_t& stop) const {
    const uint8_t c = byte(i);
    stop = after(i);
    if (c >= 0x80) {
      const uint8_t bits = class_at(i);
      if ((bits & kMark) == 0) return false;
      if ((bits & kPunctuation) == 0) return true;  // pictures, arrows
      const std::string_view mark = text.substr(i, stop - i);
      if (mark == "\xE2\x80\xA6") return true;  // ellipsis
      if (mark != "\xE2\x80\x93" && mark != "\xE2\x80\x94") return false;
      return stop < end && (class_at(before(i)) & kAlpha) != 0 && (class_at(stop) & kAlpha) != 0;
    }
    if (c == '.') {
      stop = dots_from(i, end);
      if (stop - i >= 2) return true;
      const uint8_t l = class_at(before(i));
      return (l & kAlpha) != 0 && (l & kUpper) == 0 && (class_at(stop) & kUpper) != 0;
    }
    if (c == '-' || c == '~') {
      while (stop < end && byte(stop) == c) ++stop;
      if (stop == end) return false;
    }
    const uint8_t l = class_at(before(i)), r = class_at(stop);
    switch (c) {
      case '-':
        if ((l & kDigit) != 0 && (r & kDigit) != 0) return true;
        return (l & kAlpha) != 0 && (r & kAlpha) != 0;
      case '~':
      case ',':
        return (l & kAlpha) != 0 && (r & kAlpha) != 0;
      case ':':
      case '<':
      case '>':
      case '=':
      case '/':
        return (l & (kAlpha | kDigit)) != 0 && (r & kAlpha) != 0;
      case '+':
      case '*':
      case '^':
        return (l & kDigit) != 0 && (r & kDigit) != 0;
      default:
        return false;
    }
  }

  void split_middle(size_t begin, size_t end) {
    size_t from = begin;
    for (size_t i = after(begin); i < end;) {
      size_t stop = after(i);
      if (byte(i) < 0x80 && (kAsciiClass[byte(i)] & (kAlpha | kDigit)) != 0) {
        i = stop;
        continue;
      }
      if (stop < end && cuts(i, end, stop) && stop < end) {
        emit(from, i);
        emit(i, stop);
        from = stop;
      }
      i = std::max(i + 1, std::min(stop, end));
    }
    emit(from, end);
  }

  void split_chunk(size_t begin, size_t end) {
    begin = take_front(begin, end);
    if (begin == end) return;
    size_t stop = end;
    std::array<size_t, 64> cut;  // ends come off right to left and are words left to right
    size_t cuts_made = 0;
    while (stop > begin && cuts_made < cut.size()) {
      const size_t from = last_piece(begin, stop);
      if (from == stop) break;
      cut[cuts_made++] = from;
      stop = from;
    }
    if (stop > begin) {
      if (is_link(begin, stop))
        emit(begin, stop);
      else
        split_middle(begin, stop);
    }
    while (cuts_made > 0) {
      const size_t from = cut[--cuts_made];
      emit(from, cuts_made > 0 ? cut[cuts_made - 1] : end);
    }
  }
};

}  // namespace

void split_words(std::string_view text, WordRule rule, std::vector<Word>& words) {
  Splitter splitter{text, words};
  size_t at = 0;
  while (at < text.size()) {
    const uint8_t c = splitter.byte(at);
    if (c < 0x80 ? (kAsciiClass[c] & kSpace) != 0 : (splitter.class_at(at) & kSpace) != 0) {
      at = splitter.after(at);
      continue;
    }
    size_t end = at;
    bool plain = true;  // letters and digits of ASCII
    while (end < text.size()) {
      const uint8_t b = splitter.byte(end);
      if (b < 0x80) {
        if ((kAsciiClass[b] & kSpace) != 0) break;
        plain &= (kAsciiClass[b] & (kAlpha | kDigit)) != 0;
        ++end;
      } else {
        if ((splitter.class_at(end) & kSpace) != 0) break;
        plain = false;
        end = splitter.after(end);
      }
    }
    if (plain || rule == WordRule::spaces)
      splitter.emit(at, end);
    else
      splitter.split_chunk(at, end);
    at = end;
  }
}

uint64_t count_sentences(const Word* first, const Word* end) {
  if (first == end) return 0;
  uint64_t n = 1;
  bool ended = false;
  for (const Word* w = first; w != end; ++w) {
    if (ended && !w->punctuation && !w->terminal) {
      ++n;
      ended = false;
    }
    if (w->terminal) ended = true;
  }
  return n;
}

uint64_t hash_power(uint64_t bytes) {
  if (bytes < kPowers) return kPower[bytes];
  uint64_t result = 1, base = kHashBase;
  for (; bytes != 0; bytes >>= 1, base *= base)
    if ((bytes & 1) != 0) result *= base;
  return result;
}

uint64_t hash_bytes(std::string_view bytes) {
  uint64_t h = kHashBase ^ bytes.size();
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t block;
    std::memcpy(&block, bytes.data() + i, 8);
    h = (h ^ block) * 0xD6E8FEB86659FD93ull;
    h ^= h >> 29;
  }
  uint64_t rest = 0;
  if (i < bytes.size()) std::memcpy(&rest, bytes.data() + i, bytes.size() - i);
  return mix_hash((h ^ rest) * 0xD6E8FEB86659FD93ull);
}

}  // namespace llmctl
