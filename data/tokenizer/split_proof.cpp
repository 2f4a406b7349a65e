// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/split_proof.h"

#include <iterator>

namespace llmctl {

namespace {

// Bytes above 0x7F are spelled in hexadecimal; each line is of one kind.
constexpr const char* kParts[] = {
    "a",
    "Z",
    "the",
    "Hello",
    "WORLD",
    "camelCase",
    "XMLHttp",
    "iPhone",
    "don",
    "x",
    "'s",
    "'S",
    "'ll",
    "'LL",
    "'lL",
    "'ve",
    "'Re",
    "'d",
    "'m",
    "'T",
    "'x",
    "'",
    "''",
    "'r",
    "'v",
    "'l",
    "\'\xC5\xBF",
    "\xE2\x80\x99s",
    " ",
    " ",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n",
    "\r\n",
    "\n\n",
    " \n",
    "\n ",
    "\v",
    "\f",
    "\r",
    "\xC2\xA0",
    "\xC2\x85",
    "\xE2\x80\x83",
    "\xE3\x80\x80",
    "\xE2\x80\xA8",
    "\xE1\x9A\x80",
    "\xE2\x80\x8B",
    "1",
    "12",
    "345",
    "6789",
    "0123456789",
    "\xD9\xA1",
    "\xC2\xBD",
    "\xE2\x85\xA7",
    "\xF0\x9D\x9F\x98",
    ".",
    ",",
    "!",
    "...",
    "(",
    "\")",
    "/",
    "//",
    "-",
    "_",
    "#",
    "$",
    "+",
    "=>",
    "^",
    "|",
    "~",
    "/\n",
    "\n/",
    "\xE2\x80\x94",
    "\xC2\xAB",
    "\xE3\x80\x82",
    "\xEF\xBC\x8C",
    "\xE2\x82\xAC",
    "\xE2\x88\x9E",
    "\x01",
    "\x7F",
    "\xC2\xAD",
    "\xEE\x80\x80",
    "\xCD\xB8",
    "\xE2\x80\x8D",
    "\xEF\xBB\xBF",
    "\xC3\xA9",
    "\xC3\x89",
    "\xC3\x9F",
    "\xD0\xB4\xD0\xB0",
    "\xD0\x96",
    "\xCE\xA9\xCE\xBC",
    "\xC7\x85",
    "\xCA\xB0",
    "\xC2\xAA",
    "\xD7\xA9\xD7\x9C",
    "\xD8\xB3",
    "\xCC\x81",
    "e\xCC\x81",
    "\xCC\x81\xCC\xA7",
    "\xE0\xA4\x95\xE0\xA5\x8D\xE0\xA4\xB7",
    "\xE0\xA4\xBF",
    "\xE0\xB8\x81\xE0\xB8\xB3",
    "\xE0\xB8\xB5\xE0\xB9\x88",
    "\xE2\x83\x9D",
    "\xE4\xB8\xAD\xE6\x96\x87",
    "\xE3\x81\x82",
    "\xE3\x82\xAB\xE3\x83\xBC",
    "\xE3\x82\x99",
    "\xE3\x83\xBB",
    "\xE9\xBE\xA5",
    "\xE9\xBE\xA6",
    "\xED\x95\x9C",
    "\xF0\xA0\x80\x80",
    "\xF0\x9F\x98\x80",
    "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9",
    "\xF0\x9F\x87\xA9\xF0\x9F\x87\xAA",
    "\xF0\x9F\x91\x8D\xF0\x9F\x8F\xBD",
    "\xE2\x9D\xA4\xEF\xB8\x8F",
};
constexpr const char* kBroken[] = {
    "\x80",         "\xFF",     "\xC3",     "\xE4\xB8",     "\xF0\x9F\x98",
    "\xED\xA0\x80", "\xF5\x80", "\xC0\xAF", "\xE0\x80\x80", "\xF4\x90\x80\x80"};

}  // namespace

std::string adversarial_text(uint64_t seed, int parts, bool broken) {
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 0x1234567;
  const auto draw = [&state](uint64_t n) {  // xorshift64*
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (state * 0x2545F4914F6CDD1Du >> 32) % n;
  };
  std::string text;
  while (parts > 0) {
    const char* part =
        broken && draw(8) == 0 ? kBroken[draw(std::size(kBroken))] : kParts[draw(std::size(kParts))];
    // Mostly single; now and then a run, or English, which windows of 64 bytes decide.
    const uint64_t kind = draw(24);
    const auto copies = kind == 0 ? 1 + static_cast<int>(draw(kind == 0 && draw(8) == 0 ? 90 : 6)) : 1;
    for (int i = 0; i < copies; ++i) text += part;
    for (int i = 0; kind == 1 && i < 12; ++i) text += kParts[draw(29 + 15)];
    --parts;
  }
  return text;
}

}  // namespace llmctl
