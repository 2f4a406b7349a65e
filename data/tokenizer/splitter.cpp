// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/splitter.h"

#include <algorithm>
#include <cstring>

#include "kernels/error.h"

namespace llmctl {

namespace {

struct Rules {
  enum class Word : uint8_t { plain, prefixed, cased } word = Word::plain;
  enum class Contraction : uint8_t { none, lower_first, any_first, any_last } contraction{};
  uint8_t digits = 0;         // per piece; 0: a run, with a blank before it
  bool marks_join = false;    // combining marks count as letters
  bool newlines = false;      // white space up to its last newline is one piece; marks swallow newlines
  bool slash = false;         // and slashes
  bool end_first = false;     // white space that ends the text is one piece, newlines or not
  bool digits_apart = false;  // a number ends the text before it
  bool deepseek = false;      // so do the CJK ranges; marks are P and S alone; the rest may match nothing
};

constexpr Rules rules(SplitFamily family) {
  using W = Rules::Word;
  using C = Rules::Contraction;
  using F = SplitFamily;
  switch (family) {
    case F::gpt2:
      return {W::plain, C::lower_first};
    case F::cl100k:
      return {W::prefixed, C::any_first, 3, false, true};
    case F::tiktoken:
      return {W::prefixed, C::any_first, 3, false, true, false, true};
    case F::qwen2:
      return {W::prefixed, C::any_first, 1, false, true};
    case F::nanochat:
      return {W::prefixed, C::any_first, 2, false, true};
    case F::qwen35:
      return {W::prefixed, C::any_first, 1, true, true};
    case F::o200k:
      return {W::cased, C::any_last, 3, false, true, true};
    case F::tekken:
      return {W::cased, C::none, 1, false, true, true};
    case F::starcoder:
      return {W::plain, C::lower_first, 1, false, false, false, false, true};
    default:
      return {W::prefixed, C::none, 3, true, true, false, false, true, true};
  }
}

// One match at a place where a match begins. The alternatives are tried in the order of the pattern.
template <SplitFamily family>
class Match {
 public:
  Match(const CharClassTable& classes, const uint8_t* text, size_t size)
      : classes_(classes), text_(text), size_(size) {}

  size_t end(size_t at) const {
    const ClassedChar c = get(at);
    size_t to = 0;
    if constexpr (kRules.digits_apart) {
      if (c.cls == CharClass::number) return numbers(at, kRules.digits);
      if (kRules.deepseek && is_cjk(c)) return cjk(at);
    }
    if constexpr (first_contraction())
      if (text_[at] == '\'' && (to = contraction(at)) > at) return to;
    if ((to = word(at, c)) > at) return to;
    if (c.cls == CharClass::number) return numbers(at, kRules.digits ? kRules.digits : SIZE_MAX);
    if constexpr (kRules.digits == 0)
      if (c.cls == CharClass::blank && at + 1 < size_ && get(at + 1).cls == CharClass::number)
        return numbers(at + 1, SIZE_MAX);
    if ((to = marks(at, c)) > at) return to;
    if (is_space(c)) return spaces(at);
    return nothing(at);
  }

 private:
  static constexpr Rules kRules = rules(family);
  static constexpr bool first_contraction() {
    return kRules.contraction == Rules::Contraction::lower_first ||
           kRules.contraction == Rules::Contraction::any_first;
  }
  static bool is_space(const ClassedChar& c) { return c.cls >= CharClass::space; }
  static bool is_cjk(const ClassedChar& c) {
    return (c.value >= 0x4E00 && c.value <= 0x9FA5) || (c.value >= 0x3040 && c.value <= 0x30FF);
  }
  static bool is_letter(const ClassedChar& c) {
    const auto most = kRules.marks_join ? CharClass::mark : CharClass::letter;
    return c.cls >= CharClass::upper && c.cls <= most && !(kRules.deepseek && is_cjk(c));
  }
  static bool is_upper(const ClassedChar& c) {  // o200k's first half of a word
    return c.cls == CharClass::upper || c.cls == CharClass::letter || c.cls == CharClass::mark;
  }
  static bool is_lower(const ClassedChar& c) {
    return c.cls == CharClass::lower || c.cls == CharClass::letter || c.cls == CharClass::mark;
  }
  static bool is_mark(const ClassedChar& c) {
    if (kRules.deepseek) return (c.cls == CharClass::punct || c.cls == CharClass::symbol) && !is_cjk(c);
    return !is_space(c) && !is_letter(c) && c.cls != CharClass::number;
  }
  static bool ends_text(const ClassedChar& c) {
    return kRules.digits_apart && (c.cls == CharClass::number || (kRules.deepseek && is_cjk(c)));
  }
  // What may stand before the letters of a word.
  static bool is_prefix(const ClassedChar& c) {
    if (c.cls == CharClass::newline || ends_text(c)) return false;
    if (kRules.deepseek)
      return c.cls == CharClass::other || c.cls == CharClass::mark || c.cls >= CharClass::space;
    return !(c.cls >= CharClass::upper && c.cls <= CharClass::letter) && c.cls != CharClass::number;
  }

  ClassedChar get(size_t at) const { return classed_char(classes_, text_ + at, text_ + size_); }
  template <class Member>
  size_t run(size_t at, Member member) const {
    while (at < size_) {
      const ClassedChar c = get(at);
      if (!member(c)) break;
      at += c.bytes;
    }
    return at;
  }

  size_t numbers(size_t at, size_t most) const {
    for (size_t n = 0; n < most && at < size_; ++n) {
      const ClassedChar c = get(at);
      if (c.cls != CharClass::number) break;
      at += c.bytes;
    }
    return at;
  }
  // The second split isolates a run of CJK, and the third cuts what it isolated.
  size_t cjk(size_t at) const {
    const auto letter = [](const ClassedChar& c) {
      return is_cjk(c) && c.cls >= CharClass::upper && c.cls <= CharClass::mark;
    };
    const auto mark = [](const ClassedChar& c) {
      return is_cjk(c) && (c.cls == CharClass::punct || c.cls == CharClass::symbol);
    };
    const auto letters_after = [&](const ClassedChar& c, size_t here) {
      const size_t after = here + c.bytes;
      return c.cls == CharClass::other || c.cls == CharClass::mark ? run(after, letter) : after;
    };
    ClassedChar c = get(at);
    if (letters_after(c, at) > at + c.bytes) return letters_after(c, at);
    if (letter(c)) return run(at, letter);
    if (mark(c)) return run(at, mark);
    do {  // nothing matches
      at += c.bytes;
    } while (at < size_ && is_cjk(c = get(at)) && c.cls == CharClass::other &&
             letters_after(c, at) == at + c.bytes);
    return at;
  }

  // Past the contraction whose apostrophe is at `at`, or `at`. U+017F is a small s to a pattern that
  // takes no heed of case.
  size_t contraction(size_t at) const {
    constexpr bool any = kRules.contraction != Rules::Contraction::lower_first;
    if (at + 1 >= size_) return at;
    const int fold = any ? 0x20 : 0, a = text_[at + 1] | fold;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    if (at + 2 >= size_) return at;
    if (any && text_[at + 1] == 0xC5 && text_[at + 2] == 0xBF) return at + 3;
    const int b = text_[at + 2] | fold;
    return (a == 'l' && b == 'l') || ((a == 'v' || a == 'r') && b == 'e') ? at + 3 : at;
  }

  size_t word(size_t at, const ClassedChar& c) const {
    if constexpr (kRules.word == Rules::Word::cased) return cased_word(at, c);
    if constexpr (kRules.deepseek) {  // an ASCII mark with ASCII letters
      const auto ascii_letter = [](const ClassedChar& x) {
        return (x.value | 32) >= 'a' && (x.value | 32) <= 'z' && x.value < 128;
      };
      if (c.value < 128 && is_mark(c)) {
        const size_t to = run(at + 1, ascii_letter);
        return to > at + 1 ? to : at;
      }
    }
    const auto letters = [this](size_t from) {
      return run(from, [](const ClassedChar& x) { return is_letter(x); });
    };
    const bool before = kRules.word == Rules::Word::plain ? c.cls == CharClass::blank : is_prefix(c);
    if (before) {
      const size_t to = letters(at + c.bytes);
      if (to > at + c.bytes) return to;
    }
    return letters(at);
  }

  // U*W+ at `at`, or `at`. Where no small letter ends the run, the last one of both halves does.
  size_t upper_lower(size_t at) const {
    size_t last = at, to = at;
    while (to < size_) {
      const ClassedChar c = get(to);
      if (!is_upper(c)) break;
      to += c.bytes;
      if (c.cls != CharClass::upper) last = to;
    }
    const size_t lower = run(to, [](const ClassedChar& c) { return is_lower(c); });
    return lower > to ? lower : last;
  }
  size_t cased_word(size_t at, const ClassedChar& c) const {
    const size_t after = at + c.bytes;
    size_t to = at;
    if (is_prefix(c) && upper_lower(after) > after) {
      to = upper_lower(after);
    } else if (upper_lower(at) > at) {
      to = upper_lower(at);
    } else {
      const auto upper = [](const ClassedChar& x) { return is_upper(x); };
      to = is_prefix(c) ? run(after, upper) : after;
      if (to == after) to = run(at, upper);
    }
    if (to == at || kRules.contraction == Rules::Contraction::none) return to;
    return to < size_ && text_[to] == '\'' ? contraction(to) : to;
  }

  size_t marks(size_t at, const ClassedChar& c) const {
    const size_t from = c.cls == CharClass::blank ? at + 1 : at;
    size_t to = run(from, [](const ClassedChar& x) { return is_mark(x); });
    if (to == from) return at;
    while (kRules.newlines && to < size_ &&
           (text_[to] == '\n' || text_[to] == '\r' || (kRules.slash && text_[to] == '/')))
      ++to;
    return to;
  }

  size_t spaces(size_t at) const {
    size_t to = at, last = at, newline = 0;
    while (to < size_) {
      const ClassedChar c = get(to);
      if (!is_space(c)) break;
      last = to;
      to += c.bytes;
      if (c.cls == CharClass::newline) newline = to;
    }
    if (kRules.end_first && to == size_) return to;
    if (kRules.newlines && newline) return newline;
    if (to == size_ || ends_text(get(to))) return to;
    return last > at ? last : to;
  }

  // What no alternative matches stays together up to where one does.
  size_t nothing(size_t at) const {
    size_t to = at + get(at).bytes;
    while (to < size_) {
      const ClassedChar c = get(to);
      const size_t after = to + c.bytes;
      if (c.cls != CharClass::other || is_cjk(c) || (after < size_ && is_letter(get(after)))) break;
      to = after;
    }
    return to;
  }

  const CharClassTable& classes_;
  const uint8_t* text_;
  const size_t size_;
};

template <SplitFamily family>
size_t one_piece(const CharClassTable& classes, const uint8_t* text, size_t size, size_t at) {
  return Match<family>(classes, text, size).end(at);
}

AsciiPattern ascii_of(SplitFamily family) {
  using A = AsciiPattern;
  switch (family) {
    case SplitFamily::gpt2:
      return A::gpt2;
    case SplitFamily::cl100k:
    case SplitFamily::tiktoken:
      return A::words3;
    case SplitFamily::qwen2:
    case SplitFamily::qwen35:
      return A::words1;
    case SplitFamily::nanochat:
      return A::words2;
    case SplitFamily::o200k:
      return A::cased3;
    case SplitFamily::tekken:
      return A::cased1;
    case SplitFamily::starcoder:
      return A::digits;
    default:
      return A::deepseek3;
  }
}

}  // namespace

Splitter::Splitter(SplitFamily family, kn::Isa isa)
    : family_(family), windows_(ascii_cutter(ascii_of(family), isa)), classes_(&char_classes()) {
  using F = SplitFamily;
  constexpr OnePiece kAll[] = {one_piece<F::gpt2>,     one_piece<F::cl100k>,   one_piece<F::tiktoken>,
                               one_piece<F::qwen2>,    one_piece<F::nanochat>, one_piece<F::qwen35>,
                               one_piece<F::o200k>,    one_piece<F::tekken>,   one_piece<F::starcoder>,
                               one_piece<F::deepseek3>};
  one_piece_ = kAll[static_cast<size_t>(family)];
}

size_t Splitter::cut(std::string_view text, size_t at, uint32_t* ends) const {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data()) + at;
  const size_t size = text.size() - at;
  AsciiCut cut{.text = text.data() + at,
               .size = static_cast<int64_t>(std::min<size_t>(size, UINT32_MAX)),
               .ends = ends,
               .capacity = kBatch};
  constexpr auto kFull = static_cast<int64_t>(kBatch) - 64;  // a window may give so many
  while (cut.count <= kFull && static_cast<size_t>(cut.at) < size) {
    const auto from = static_cast<size_t>(cut.at);
    uint64_t next = 0x80;  // eight bytes; windows pay where they are ASCII
    if (size - from >= 64) std::memcpy(&next, bytes + from, 8);
    if (!(next & 0x8080808080808080u)) windows_(cut);
    if (cut.count > kFull || static_cast<size_t>(cut.at) == size) break;
    const size_t end = one_piece_(*classes_, bytes, size, static_cast<size_t>(cut.at));
    if (end > UINT32_MAX && cut.count > 0) break;
    check(end <= UINT32_MAX, Code::input, "[tokenizer] a piece of 4 GiB");
    ends[cut.count++] = static_cast<uint32_t>(end);
    cut.at = static_cast<int64_t>(end);
  }
  return static_cast<size_t>(cut.count);
}

const char* name_of(SplitFamily family) {
  constexpr const char* kNames[] = {"gpt2",   "cl100k", "tiktoken", "qwen2",     "nanochat",
                                    "qwen35", "o200k",  "tekken",   "starcoder", "deepseek-v3"};
  return kNames[static_cast<size_t>(family)];
}

}  // namespace llmctl
