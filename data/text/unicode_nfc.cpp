// SPDX-License-Identifier: Apache-2.0
#include "data/text/unicode_nfc.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "data/text/utf8.h"

namespace llmctl {

namespace {

// Hangul syllables are composed by rule (The Unicode Standard, section 3.12).
constexpr uint32_t kS = 0xAC00, kL = 0x1100, kV = 0x1161, kT = 0x11A7, kLs = 19, kVs = 21, kTs = 28;
constexpr uint32_t kStray = 0x110000;  // + byte: carried through unchanged

uint8_t combining_class(uint32_t code) {
  if (code < 0x300) return 0;
  const auto ranges = combining_ranges();
  const auto it = std::upper_bound(ranges.begin(), ranges.end(), code,
                                   [](uint32_t c, const CombiningRange& r) { return c < r.first; });
  return it != ranges.begin() && code <= (it - 1)->last ? (it - 1)->combining_class : 0;
}

void decompose(uint32_t code, std::vector<uint32_t>& out) {
  if (code >= kS && code < kS + kLs * kVs * kTs) {
    const uint32_t index = code - kS;
    out.push_back(kL + index / (kVs * kTs));
    out.push_back(kV + index % (kVs * kTs) / kTs);
    if (index % kTs) out.push_back(kT + index % kTs);
    return;
  }
  const auto pairs = canonical_pairs();
  const auto it = std::lower_bound(pairs.begin(), pairs.end(), code,
                                   [](const CanonicalPair& p, uint32_t c) { return p.code < c; });
  if (code < 0xC0 || it == pairs.end() || it->code != code) {
    out.push_back(code);
    return;
  }
  decompose(it->first, out);
  if (it->second) decompose(it->second, out);
}

// 0 when the two do not compose.
uint32_t composed(uint32_t first, uint32_t second) {
  if (first >= kL && first < kL + kLs && second >= kV && second < kV + kVs)
    return kS + ((first - kL) * kVs + (second - kV)) * kTs;
  if (first >= kS && first < kS + kLs * kVs * kTs && (first - kS) % kTs == 0 && second > kT &&
      second < kT + kTs)
    return first + (second - kT);
  static const auto table = [] {
    std::unordered_map<uint64_t, uint32_t> map;
    for (const CanonicalPair& p : canonical_pairs())
      if (p.composes) map[(uint64_t{p.first} << 32) | p.second] = p.code;
    return map;
  }();
  const auto it = table.find((uint64_t{first} << 32) | second);
  return it == table.end() ? 0 : it->second;
}

void order_marks(std::vector<uint32_t>& codes) {
  for (size_t i = 0; i < codes.size();) {
    size_t end = i;
    while (end < codes.size() && combining_class(codes[end]) != 0) ++end;
    if (end > i)
      std::stable_sort(codes.begin() + static_cast<ptrdiff_t>(i), codes.begin() + static_cast<ptrdiff_t>(end),
                       [](uint32_t a, uint32_t b) { return combining_class(a) < combining_class(b); });
    i = end + 1;
  }
}

void compose(std::vector<uint32_t>& codes) {
  size_t kept = 0, starter = SIZE_MAX;
  int before = -1;  // class of the last code kept after the starter; -1: none
  for (const uint32_t code : codes) {
    const uint8_t rank = combining_class(code);
    const bool reaches = starter != SIZE_MAX && (before < 0 || before < static_cast<int>(rank));
    const uint32_t joined = reaches ? composed(codes[starter], code) : 0;
    if (joined) {
      codes[starter] = joined;
      continue;
    }
    if (rank == 0) {
      starter = kept;
      before = -1;
    } else {
      before = rank;
    }
    codes[kept++] = code;
  }
  codes.resize(kept);
}

}  // namespace

std::string to_nfc(std::string_view text) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; }))
    return std::string(text);
  std::vector<uint32_t> codes;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    const bool valid = point.kind == CodePoint::Kind::valid;
    if (valid)
      decompose(point.value, codes);
    else
      codes.push_back(kStray + static_cast<uint8_t>(text[at]));
    at += valid ? point.bytes : 1;
  }
  order_marks(codes);
  compose(codes);
  std::string out;
  for (const uint32_t code : codes) {
    if (code >= kStray)
      out.push_back(static_cast<char>(code - kStray));
    else
      append_utf8(out, code);
  }
  return out;
}

}  // namespace llmctl
