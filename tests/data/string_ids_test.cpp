// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/string_ids.h"

#include <catch2/catch.hpp>
#include <map>

using namespace llmctl;

TEST_CASE("string ids are those of a map, for strings of every length and with zeros", "[string_ids]") {
  StringIds ids;
  std::map<std::string, int32_t> expected;
  CHECK_FALSE(ids.find("").has_value());
  uint64_t state = 1;
  for (int32_t i = 0; i < 20000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    // Lengths around the hash's words of eight bytes, letters few enough for repeats.
    std::string text((state >> 33) % 19, '\0');
    for (size_t c = 0; c < text.size(); ++c) text[c] = static_cast<char>((state >> (c % 3 + 40)) & 3);
    CHECK(ids.add(text, i) == expected.emplace(text, i).second);
  }
  REQUIRE(ids.size() == expected.size());
  for (const auto& [text, id] : expected) REQUIRE(ids.find(text) == id);
  CHECK_FALSE(ids.contains(std::string(19, '\0')));
  int32_t last = -1;
  size_t seen = 0;
  ids.for_each([&](std::string_view text, int32_t id) {
    CHECK(id > last);
    CHECK(expected.at(std::string(text)) == id);
    last = id;
    ++seen;
  });
  CHECK(seen == expected.size());
}
