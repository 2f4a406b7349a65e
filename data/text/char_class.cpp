// SPDX-License-Identifier: Apache-2.0
#include "data/text/char_class.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <memory>

#include "data/text/utf8.h"

namespace llmctl {
namespace {

struct Range {
  char32_t first, last;
};
// Above ASCII. FineWeb's list of terminal marks: Unicode's Sentence_Terminal with some Khmer and Balinese.
constexpr Range kTerminals[] = {
    {0x589, 0x589},     {0x61D, 0x61F},     {0x6D4, 0x6D4},     {0x700, 0x702},     {0x7F9, 0x7F9},
    {0x837, 0x837},     {0x839, 0x839},     {0x83D, 0x83E},     {0x964, 0x965},     {0x104A, 0x104B},
    {0x1362, 0x1362},   {0x1367, 0x1368},   {0x166E, 0x166E},   {0x1735, 0x1736},   {0x17D4, 0x17D6},
    {0x17D9, 0x17DA},   {0x1803, 0x1803},   {0x1809, 0x1809},   {0x1944, 0x1945},   {0x1AA8, 0x1AAB},
    {0x1B5A, 0x1B5B},   {0x1B5E, 0x1B5F},   {0x1B7D, 0x1B7E},   {0x1C3B, 0x1C3C},   {0x1C7E, 0x1C7F},
    {0x203C, 0x203D},   {0x2047, 0x2049},   {0x2E2E, 0x2E2E},   {0x2E3C, 0x2E3C},   {0x2E53, 0x2E54},
    {0x3002, 0x3002},   {0xA4FF, 0xA4FF},   {0xA60E, 0xA60F},   {0xA6F3, 0xA6F3},   {0xA6F7, 0xA6F7},
    {0xA876, 0xA877},   {0xA8CE, 0xA8CF},   {0xA92F, 0xA92F},   {0xA9C8, 0xA9C9},   {0xAA5D, 0xAA5F},
    {0xAAF0, 0xAAF1},   {0xABEB, 0xABEB},   {0xFE52, 0xFE52},   {0xFE56, 0xFE57},   {0xFF01, 0xFF01},
    {0xFF0E, 0xFF0E},   {0xFF1F, 0xFF1F},   {0xFF61, 0xFF61},   {0x10A56, 0x10A57}, {0x10F55, 0x10F59},
    {0x10F86, 0x10F89}, {0x11047, 0x11048}, {0x110BE, 0x110C1}, {0x11141, 0x11143}, {0x111C5, 0x111C6},
    {0x111CD, 0x111CD}, {0x111DE, 0x111DF}, {0x11238, 0x11239}, {0x1123B, 0x1123C}, {0x112A9, 0x112A9},
    {0x1144B, 0x1144C}, {0x115C2, 0x115C3}, {0x115C9, 0x115D7}, {0x11641, 0x11642}, {0x1173C, 0x1173E},
    {0x11944, 0x11944}, {0x11946, 0x11946}, {0x11A42, 0x11A43}, {0x11A9B, 0x11A9C}, {0x11C41, 0x11C42},
    {0x11EF7, 0x11EF8}, {0x11F43, 0x11F44}, {0x16A6E, 0x16A6F}, {0x16AF5, 0x16AF5}, {0x16B37, 0x16B38},
    {0x16B44, 0x16B44}, {0x16E98, 0x16E98}, {0x1BC9F, 0x1BC9F}, {0x1DA88, 0x1DA88}};
// datatrove's punctuation above ASCII, besides the terminal marks.
constexpr Range kSymbols[] = {{0x80, 0x9F},     {0xAB, 0xAB},     {0xB4, 0xB4},     {0xBB, 0xBB},
                              {0x2013, 0x2014}, {0x2019, 0x2019}, {0x201C, 0x201E}, {0x2026, 0x2026},
                              {0x2236, 0x2236}, {0x2501, 0x2501}, {0x25BA, 0x25BA}, {0x3001, 0x3001},
                              {0x3008, 0x300D}, {0x3010, 0x3011}, {0xFF05, 0xFF05}, {0xFF08, 0xFF09},
                              {0xFF0C, 0xFF0C}, {0xFF11, 0xFF11}, {0xFF1A, 0xFF1B}, {0xFF5E, 0xFF5E}};

template <size_t N>
bool among(const Range (&ranges)[N], char32_t value) {
  const Range* at =
      std::lower_bound(ranges, ranges + N, value, [](const Range& r, char32_t v) { return r.last < v; });
  return at != ranges + N && value >= at->first;
}

uint8_t look_up(char32_t value) {
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(value));
  const bool punctuation = category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
  const bool symbol = category >= UTF8PROC_CATEGORY_SM && category <= UTF8PROC_CATEGORY_SO;
  const bool terminal = among(kTerminals, value);
  uint8_t bits = 0;
  if (is_white_space(value)) bits |= kSpace;
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) bits |= kAlpha;
  if (category == UTF8PROC_CATEGORY_ND) bits |= kDigit;
  if (category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LT) bits |= kUpper;
  if (terminal || among(kSymbols, value)) bits |= kSymbol;
  if (punctuation) bits |= kPunctuation;
  if (punctuation || symbol) bits |= kMark;
  if (terminal) bits |= kTerminal;
  return bits;
}

using Plane = std::array<uint8_t, 0x10000>;
std::unique_ptr<const Plane> basic_plane() {
  auto plane = std::make_unique<Plane>();
  for (char32_t c = 0; c < plane->size(); ++c) (*plane)[c] = c < 0x80 ? kAsciiClass[c] : look_up(c);
  return plane;
}

}  // namespace

#define LETTERS(x) x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x
// s: in the symbol set; p: category P; sm, pm: also taken off the ends of words; t: ends a sentence.
constexpr uint8_t s = kSymbol, p = kSymbol | kPunctuation, sm = s | kMark, pm = p | kMark, t = pm | kTerminal,
                  w = kSymbol | kSpace, d = kDigit;
const uint8_t kAsciiClass[128] = {s,
                                  s,
                                  s,
                                  s,
                                  s,
                                  s,
                                  s,
                                  s,
                                  s,
                                  kSpace,
                                  kSpace,
                                  w,
                                  w,
                                  w,
                                  s,
                                  s,  // 00 to 0F
                                  s,
                                  s,
                                  s,
                                  s,
                                  s,
                                  s,
                                  s,
                                  s,
                                  s,
                                  s,
                                  s,
                                  s,
                                  w,
                                  w,
                                  w,
                                  w,  // 10 to 1F
                                  kSpace,
                                  t,
                                  pm,
                                  pm,
                                  sm,
                                  pm,
                                  pm,
                                  pm,
                                  pm,
                                  pm,
                                  pm,
                                  sm,
                                  pm,
                                  p,
                                  p | kTerminal,
                                  p,  // space ! " # $ % & ' ( ) * + , - . /
                                  d,
                                  d,
                                  d,
                                  d,
                                  d,
                                  d,
                                  d,
                                  d,
                                  d,
                                  d,
                                  pm,
                                  pm,
                                  sm,
                                  sm,
                                  sm,
                                  t,  // 0 to 9 : ; < = > ?
                                  p,
                                  LETTERS(kAlpha | kUpper),
                                  pm,
                                  p,
                                  pm,
                                  s,
                                  pm,  // @ A to Z [ \ ] ^ _
                                  sm,
                                  LETTERS(kAlpha),
                                  pm,
                                  s,
                                  pm,
                                  s,
                                  s};  // ` a to z { | } ~ DEL
#undef LETTERS

uint8_t char_class(char32_t value) {
  static const std::unique_ptr<const Plane> plane = basic_plane();
  return value < plane->size() ? (*plane)[value] : look_up(value);
}

uint64_t count_code_points(std::string_view text) {
  uint64_t n = 0;
  for (const char c : text) n += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
  return n;
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  if (is_utf8(text)) return std::string(text);
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (c.kind == CodePoint::Kind::valid)
      out.append(text, at, c.bytes);
    else
      out += "\xEF\xBF\xBD";
    at += c.bytes;
  }
  return out;
}

}  // namespace llmctl
