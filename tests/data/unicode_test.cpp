// SPDX-License-Identifier: Apache-2.0
#include "data/text/unicode.h"

#include <catch2/catch.hpp>

using namespace llmctl;

namespace {

std::string nfc(std::string_view text) {
  return normalize(UnicodeForm::nfc, text);
}

}  // namespace

TEST_CASE("normalization forms of Annex 15", "[unicode]") {
  CHECK(nfc("e\xCC\x81") == "\xC3\xA9");
  CHECK(nfc("\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB") == "\xED\x95\x9C");  // Hangul
  CHECK(nfc("e\xCC\x81\xCC\xA3") == "\xE1\xBA\xB9\xCC\x81");             // marks change places
  CHECK(nfc("\xE0\xA5\x98") == "\xE0\xA4\x95\xE0\xA4\xBC");              // a composition exclusion
  CHECK(nfc("a\xFF\xCC\x81") == "a\xFF\xCC\x81");                        // no UTF-8
  CHECK(nfc("\xE2\x84\xAB\xEF\xAC\x81") == "\xC3\x85\xEF\xAC\x81");      // the angstrom sign, a ligature
  CHECK(normalize(UnicodeForm::nfkc, "\xEF\xAC\x81") == "fi");
  CHECK(normalize(UnicodeForm::nfd, "\xC3\xA9\xED\x95\x9C") ==
        "e\xCC\x81\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB");
  CHECK(normalize(UnicodeForm::nfkd, "\xEF\xBD\xB6\xEF\xBE\x9E") == "\xE3\x82\xAB\xE3\x82\x99");
  CHECK(normalize(UnicodeForm::nfkc, "\xEF\xBD\xB6\xEF\xBE\x9E") == "\xE3\x82\xAC");
  CHECK(nfc("\xED\x8C\xA8\xE1\x86\xA7") == "\xED\x8C\xA8\xE1\x86\xA7");  // U+11A7 is no final
  CHECK(normalize(UnicodeForm::nfkd, "\xEF\xB7\xBA").size() == 33);      // U+FDFA: 18 code points
}

TEST_CASE("what came after Unicode 9 stays in the tables of that version", "[unicode]") {
  const std::string era = "\xE3\x8B\xBF";  // U+32FF, Unicode 12.1
  CHECK(normalize(UnicodeForm::nfkc, era) == "\xE4\xBB\xA4\xE5\x92\x8C");
  CHECK(normalize(UnicodeForm::nfkc, era, UnicodeTables::v9) == era);
  const std::string marks = "a\xE0\xA3\x93\xCC\xA3\xCC\x81";  // U+08D3 (Unicode 11, below) before U+0323
  CHECK(normalize(UnicodeForm::nfc, marks) != marks);
  CHECK(normalize(UnicodeForm::nfc, marks, UnicodeTables::v9) == marks);
}

TEST_CASE("a long run of marks does not take quadratic time", "[unicode]") {
  std::string text = "e";
  for (int i = 0; i < 300000; ++i) text += i % 2 ? "\xCC\xA3" : "\xCC\x81";  // above and below in turn
  const std::string done = nfc(text);
  CHECK(done.substr(0, 3) == "\xE1\xBA\xB9");
  CHECK(done.size() == text.size());  // e and one mark became three bytes
}

TEST_CASE("rewritten text knows what its bytes stand for", "[unicode]") {
  const AlignedText first("xe\xCC\x81y\xFF", true, 10);
  const AlignedText done = normalize(UnicodeForm::nfc, first, UnicodeTables::current);
  REQUIRE(done.text == "x\xC3\xA9y\xFF");
  const Origin letter = done.origin_of(1, 3), whole = done.origin_of(0, 5), none = done.origin_of(3, 3);
  CHECK((letter.begin == 11 && letter.end == 14));
  CHECK((whole.begin == 10 && whole.end == 16));
  CHECK((none.begin == 14 && none.end == 14));
  CHECK(done.origin_of(5, 5).begin == 16);
}

TEST_CASE("grapheme clusters", "[unicode]") {
  CHECK(grapheme_ends("ae\xCC\x81\r\n") == std::vector<size_t>{1, 4, 6});
  CHECK(grapheme_ends("").empty());
}
