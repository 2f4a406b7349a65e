// SPDX-License-Identifier: Apache-2.0
#include "kernels/split_ascii.h"

#include "kernels/simd.h"

namespace llmctl::kn {

AsciiCutter cutter_of(KN_CPU, AsciiPattern pattern);

namespace {

using Bits = uint64_t;

// Bit i is byte i of the window.
struct Masks {
  Bits letter, upper, digit, space, blank, newline, quote, slash, control, high;
};

#if KN_ISA >= 2
struct Block {
  __m512i v;
  Bits in(int low, int count) const {
    return _mm512_cmplt_epu8_mask(_mm512_sub_epi8(v, _mm512_set1_epi8(static_cast<char>(low))),
                                  _mm512_set1_epi8(static_cast<char>(count)));
  }
  Bits is(char c) const { return _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8(c)); }
  Bits high() const { return _mm512_movepi8_mask(v); }
};
KN_INLINE Block block(const char* p) {
  return {_mm512_loadu_si512(p)};
}
KN_INLINE Block folded(Block b) {
  return {_mm512_or_si512(b.v, _mm512_set1_epi8(0x20))};
}
#elif KN_ISA == 1
struct Block {
  __m256i a, b;
  static Bits bits(__m256i x, __m256i y) {
    return static_cast<uint32_t>(_mm256_movemask_epi8(x)) |
           static_cast<Bits>(static_cast<uint32_t>(_mm256_movemask_epi8(y))) << 32;
  }
  static __m256i in(__m256i x, int low, int count) {
    const __m256i from = _mm256_sub_epi8(x, _mm256_set1_epi8(static_cast<char>(low)));
    const __m256i most = _mm256_set1_epi8(static_cast<char>(count - 1));
    return _mm256_cmpeq_epi8(_mm256_min_epu8(from, most), from);
  }
  Bits in(int low, int count) const { return bits(in(a, low, count), in(b, low, count)); }
  Bits is(char c) const {
    return bits(_mm256_cmpeq_epi8(a, _mm256_set1_epi8(c)), _mm256_cmpeq_epi8(b, _mm256_set1_epi8(c)));
  }
  Bits high() const { return bits(a, b); }
};
KN_INLINE Block block(const char* p) {
  const auto q = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
KN_INLINE Block folded(Block b) {
  const __m256i fold = _mm256_set1_epi8(0x20);
  return {_mm256_or_si256(b.a, fold), _mm256_or_si256(b.b, fold)};
}
#else
// Eight bytes at a time in one integer; the top bit of each byte is the answer.
constexpr Bits kOnes = 0x0101010101010101u, kTops = 0x8080808080808080u;
struct Block {
  Bits w[8];
  // Answers of 64 bytes: the top bits, gathered by a multiplication.
  template <class Answer>
  Bits gather(Answer answer) const {
    Bits all = 0;
    for (int i = 0; i < 8; ++i) all |= (((answer(w[i]) & kTops) >> 7) * 0x0102040810204080u) >> 56 << (8 * i);
    return all;
  }
  Bits in(int low, int count) const {  // ASCII bounds; bytes above 0x7F are not in
    const Bits from = kOnes * static_cast<Bits>(0x80 - low),
               past = kOnes * static_cast<Bits>(0x80 - low - count);
    return gather([=](Bits x) { return ((x & ~kTops) + from) & ~((x & ~kTops) + past) & ~x; });
  }
  Bits is(char c) const { return in(c, 1); }
  Bits high() const {
    return gather([](Bits x) { return x; });
  }
};
KN_INLINE Block block(const char* p) {
  Block b;
  std::memcpy(b.w, p, 64);
  return b;
}
KN_INLINE Block folded(Block b) {  // only ever asked for letters: '@' and such fold outside them
  for (Bits& x : b.w) x |= kOnes * 0x20;
  return b;
}
#endif

KN_INLINE Bits below(int64_t n) {
  return n >= 64 ? ~Bits{0} : (Bits{1} << n) - 1;
}
KN_INLINE int low_bit(Bits x) {
  return __builtin_ctzll(x);
}
KN_INLINE int high_bit(Bits x) {
  return 63 - __builtin_clzll(x);
}

struct Traits {
  bool gpt2, cased, contractions, segments, deepseek;
  int digits;  // per piece; 0: a run
};
constexpr Traits traits(AsciiPattern p) {
  using P = AsciiPattern;
  const bool gpt2 = p == P::gpt2 || p == P::digits, cased = p == P::cased1 || p == P::cased3;
  const int digits = p == P::words1 || p == P::cased1 || p == P::digits ? 1
                     : p == P::words2                                   ? 2
                     : p == P::gpt2                                     ? 0
                                                                        : 3;
  return {gpt2,
          cased,
          p != P::cased1 && p != P::deepseek3,  // contractions
          p == P::digits || p == P::deepseek3,  // a number ends a text of its own
          p == P::deepseek3,
          digits};
}

template <Traits t>
KN_INLINE Masks masks_of(const char* p) {
  const Block b = block(p);
  Masks m{};
  m.high = b.high();
  m.letter = folded(b).in('a', 26);
  m.digit = b.in('0', 10);
  m.blank = b.is(' ');
  m.space = b.in(9, 5) | m.blank;
  m.quote = t.contractions ? b.is('\'') : 0;
  if constexpr (t.cased) {
    m.upper = b.in('A', 26);
    m.slash = b.is('/');
  }
  if constexpr (t.deepseek) m.control = (b.in(0, 32) & ~m.space) | b.is(0x7F);
  if constexpr (!t.gpt2) m.newline = b.is('\n') | b.is('\r');
  return m;
}

// Length of the contraction whose apostrophe is at p (2 or 3), or 0.
template <bool any_case>
KN_INLINE int contraction(const char* p) {
  const int fold = any_case ? 0x20 : 0;
  const int a = p[1] | fold, b = p[2] | fold;
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  return (a == 'l' && b == 'l') || (a == 'v' && b == 'e') || (a == 'r' && b == 'e') ? 3 : 0;
}

// Members of `runs` whose run is followed by a bit of `after`.
KN_INLINE Bits runs_before(Bits runs, Bits after) {
  Bits found = runs & (after >> 1), reach = runs;
  for (int step = 1; step < 64; step *= 2) {
    found |= reach & (found >> step);
    reach &= reach >> step;
  }
  return found;
}

template <Traits t>
KN_INLINE Bits digit_starts(const Masks& m) {
  if constexpr (t.digits == 1) return m.digit;
  Bits starts = m.digit & ~(m.digit << 1);
  if constexpr (t.digits == 0) return starts & ~(m.blank << 1);
  Bits run = m.digit & (m.digit << 1) & (m.digit << 2);  // a start t.digits before is in the same run
  if constexpr (t.digits == 3) run &= m.digit << 3;
  for (Bits now = (starts << t.digits) & run; now; now = (now << t.digits) & run) starts |= now;
  return starts;
}

// White space that is not swallowed by a mark before it: where it is cut.
template <Traits t>
KN_INLINE Bits space_starts(const Masks& m, Bits mark) {
  Bits rest = m.space, starts = 0;
  if constexpr (!t.gpt2) {
    rest &= ~(m.newline & ~(m.newline + (m.newline & (mark << 1))));  // runs of newlines after a mark
    const Bits tail = m.space & ~m.newline, after = tail & (m.newline << 1);
    if (after) starts = after & ~runs_before(tail, m.newline);  // after the last newline
    starts |= tail & ~(m.space >> 1) & ~(t.segments ? m.digit >> 1 : 0);
  } else {
    starts =
        m.space & ~(m.space >> 1) & ~(t.segments ? m.digit >> 1 : 0);  // the last one goes with what follows
  }
  return starts | (rest & ~(rest << 1));
}

// Starts of pieces before contractions are looked at.
template <Traits t>
KN_INLINE Bits piece_starts(const Masks& m, Bits mark) {
  const Bits letters = m.letter & ~(m.letter << 1), marks = mark & ~(mark << 1) & ~(m.blank << 1);
  Bits starts = marks | digit_starts<t>(m) | space_starts<t>(m, mark);
  if constexpr (t.gpt2) {
    starts |= letters & ~(m.blank << 1);
  } else {  // a word takes one white space that is no newline, or a mark that stands alone
    const Bits prefix = (m.space & ~m.newline) | marks;
    starts |= letters & ~(prefix << 1);
  }
  if constexpr (t.cased) starts |= m.upper & ((m.letter & ~m.upper) << 1);
  return starts;
}

// The last bit that is decided. `known` bytes of the window are ASCII.
template <Traits t>
KN_INLINE int last_decided(const Masks& m, int known) {
  int last = known - 3;  // contractions look two ahead
  if (m.space >> (known - 1) & 1) {
    const Bits other = ~m.space & below(known);
    const int run = other ? high_bit(other) + 1 : 0;
    last = run < last ? run : last;
  }
  if constexpr (t.cased) {  // newlines swallowed by a mark let it swallow slashes too
    const Bits rare = m.slash & (m.newline << 1);
    if (rare) last = low_bit(rare) - 2 < last ? low_bit(rare) - 2 : last;
  }
  return last < 0 ? 0 : last;
}

// A contraction is a piece of its own where a piece may start.
template <Traits t>
KN_INLINE Bits cut_contractions(const char* p, const Masks& m, Bits starts, int last) {
  for (Bits q = m.quote & starts & below(last + 1); q; q &= q - 1) {
    const int at = low_bit(q), n = contraction<!t.gpt2>(p + at);
    if (n) starts = (starts & ~(Bits{2} << at)) | Bits{1} << at << n;
  }
  return starts;
}

// It belongs to the word before it. Two in a row depend on each other: left undecided.
template <Traits t>
KN_INLINE Bits join_contractions(const char* p, const Masks& m, Bits starts, int& last) {
  int end = -1;  // of the contraction before
  for (Bits q = m.quote & (m.letter << 1) & below(last + 1); q; q &= q - 1) {
    const int at = low_bit(q), n = contraction<true>(p + at);
    if (!n) continue;
    if (at == end) {
      last = at - 4;
      break;
    }
    end = at + n;
    starts = (starts & ~(Bits{7} << at)) | Bits{1} << at << n;
  }
  return starts;
}

template <AsciiPattern pattern>
void cut(AsciiCut& c) {
  constexpr Traits t = traits(pattern);
  while (c.size - c.at >= 64 && c.capacity - c.count >= 64) {
    const char* p = c.text + c.at;
    const Masks m = masks_of<t>(p);
    const Bits odd = m.high | m.control;
    const int known = odd ? low_bit(odd) : 64;
    if (known < 8) return;
    const Bits mark = ~(m.letter | m.digit | m.space | odd);
    int last = last_decided<t>(m, known);
    Bits starts = piece_starts<t>(m, mark);
    if constexpr (t.contractions && t.cased) {
      if (m.quote) starts = join_contractions<t>(p, m, starts, last);
    } else if constexpr (t.contractions) {
      if (m.quote) starts = cut_contractions<t>(p, m, starts | 1, last);
    }
    if (last < 1) return;
    starts &= below(last + 1) & ~Bits{1};
    if (!starts) return;
    const int n = __builtin_popcountll(starts), next = high_bit(starts);
    uint32_t* to = c.ends + c.count;
    const auto base = static_cast<uint32_t>(c.at);
    for (int done = 0; done < n; done += 8)  // some are written past the last and overwritten later
      for (int i = 0; i < 8; ++i, starts &= starts - 1)
        to[done + i] = base + static_cast<uint32_t>(__builtin_ctzll(starts | Bits{1} << 63));
    c.count += n;
    c.at += next;
  }
}

}  // namespace

AsciiCutter cutter_of(KN_CPU, AsciiPattern pattern) {
  switch (pattern) {
    case AsciiPattern::gpt2:
      return cut<AsciiPattern::gpt2>;
    case AsciiPattern::words1:
      return cut<AsciiPattern::words1>;
    case AsciiPattern::words2:
      return cut<AsciiPattern::words2>;
    case AsciiPattern::words3:
      return cut<AsciiPattern::words3>;
    case AsciiPattern::cased1:
      return cut<AsciiPattern::cased1>;
    case AsciiPattern::cased3:
      return cut<AsciiPattern::cased3>;
    case AsciiPattern::digits:
      return cut<AsciiPattern::digits>;
    default:
      return cut<AsciiPattern::deepseek3>;
  }
}

#if KN_ONCE
#ifdef __aarch64__
AsciiCutter cutter_of(Cpu<Isa::neon>, AsciiPattern pattern);
#else
AsciiCutter cutter_of(Cpu<Isa::avx2>, AsciiPattern pattern);
AsciiCutter cutter_of(Cpu<Isa::avx512>, AsciiPattern pattern);
AsciiCutter cutter_of(Cpu<Isa::avx512_bf16>, AsciiPattern pattern);
#endif
AsciiCutter ascii_cutter(AsciiPattern pattern, Isa isa) {
  switch (isa) {
    case Isa::portable:
      return cutter_of(Cpu<Isa::portable>{}, pattern);
#ifdef __aarch64__
    case Isa::neon:
      return cutter_of(Cpu<Isa::neon>{}, pattern);
#else
    case Isa::avx2:
      return cutter_of(Cpu<Isa::avx2>{}, pattern);
    case Isa::avx512:
      return cutter_of(Cpu<Isa::avx512>{}, pattern);
    default:
      return cutter_of(Cpu<Isa::avx512_bf16>{}, pattern);
#endif
  }
}
#endif

}  // namespace llmctl::kn
