// SPDX-License-Identifier: Apache-2.0
#include "serve/choice_text.h"

#include <catch2/catch.hpp>

#include "tests/serve/fixture.h"

using namespace llmctl;
using serve::ChoiceText;

namespace {

std::vector<std::string> pieces_of(const std::string& bytes, std::vector<std::string> stops, bool& stopped,
                                   int min_tokens = 0) {
  const Tokenizer tokenizer = test::byte_tokenizer();
  ChoiceText text(tokenizer, std::move(stops), min_tokens);
  std::vector<std::string> pieces;
  for (const char c : bytes) {
    TokenOut token;
    token.id = static_cast<unsigned char>(c);
    text.push(token, false);
    pieces.push_back(text.take().text);
  }
  text.finish();
  pieces.push_back(text.take().text);
  stopped = text.stopped();
  return pieces;
}

std::string join(const std::vector<std::string>& pieces) {
  std::string all;
  for (const auto& p : pieces) all += p;
  return all;
}

}  // namespace

TEST_CASE("a stop string that spans tokens is never shown in part") {
  bool stopped = false;
  const auto pieces = pieces_of("one\n\nQ: two", {"\n\nQ", "zzz"}, stopped);
  CHECK(stopped);
  CHECK(join(pieces) == "one");
  CHECK(pieces[2] == "e");
  CHECK(pieces[3].empty());  // the newline is held back
}

TEST_CASE("held text is released when it turns out to be no stop string") {
  bool stopped = true;
  const auto pieces = pieces_of("ab-ac-ab", {"abc", "-ad"}, stopped);
  CHECK_FALSE(stopped);
  CHECK(join(pieces) == "ab-ac-ab");
}

TEST_CASE("the earliest of several stop strings cuts") {
  bool stopped = false;
  CHECK(join(pieces_of("xaabbz", {"bb", "aab"}, stopped)) == "x");
  CHECK(join(pieces_of("aaab", {"aab"}, stopped)) == "a");
}

TEST_CASE("stop strings wait for min_tokens") {
  bool stopped = false;
  CHECK(join(pieces_of("..x.", {"."}, stopped, 3)) == "..x");
  CHECK(stopped);
}

TEST_CASE("no piece ends inside a code point") {
  bool stopped = false;
  const std::string text = "h\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x99\x82.";
  const auto pieces = pieces_of(text, {"\xE2\x82\xAD"}, stopped);
  CHECK(join(pieces) == text);
  for (const auto& p : pieces) CHECK_NOTHROW(Json(p).dump());
  CHECK(join(pieces_of("a\xF0\x9F", {}, stopped)) == "a\xEF\xBF\xBD");
}

TEST_CASE("tokens come with their text and their offset") {
  const Tokenizer tokenizer = test::byte_tokenizer();
  ChoiceText text(tokenizer, {"cd"}, 0);
  for (const char c : std::string("abcd")) {
    TokenOut token;
    token.id = c;
    text.push(token, false);
  }
  const auto piece = text.take();
  CHECK(piece.text == "ab");
  REQUIRE(piece.tokens.size() == 2);
  CHECK(piece.tokens[1].offset == 1);
}
