// SPDX-License-Identifier: Apache-2.0
// Places inside a piece that no token of the vocabulary lies across: there the piece may be cut, and the ids
// of its parts are those of the whole, whatever the merges are, since no merge can join the two sides. Only
// places between characters of three bytes of UTF-8 are looked at (Chinese, Japanese, Korean, Thai, the
// scripts of India): their pieces are long, seldom seen twice and so never in a cache, while their parts are
// characters and words. Two bytes before the place and three after it are compared, so a token that only
// looks like lying across keeps the piece whole there, which costs time and changes nothing.
// Threads: const after construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace llmctl {

class TokenBorders {
 public:
  TokenBorders();
  void add(std::string_view token);  // every entry of the vocabulary

  // Whether text[from, to) may be cut before `at`, which lies in it.
  bool may_cut(const char* text, size_t from, size_t at, size_t to) const {
    if (at < from + 2 || at + 3 > to) return false;
    const auto b = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
    const bool characters = (b(at) & 0xF0) == 0xE0 && is_tail(b(at - 2)) && is_tail(b(at - 1)) &&
                            is_tail(b(at + 1)) && is_tail(b(at + 2));
    if (!characters) return false;
    const size_t near = near_place(b(at - 1), b(at), b(at + 1));
    const size_t far = far_place(b(at - 2), b(at - 1), b(at), b(at + 1), b(at + 2));
    return !((near_[near / 64] >> near % 64 | far_[far / 64] >> far % 64) & 1);
  }

 private:
  static constexpr int kFarBits = 19;  // 64 KiB: 35 thousand places of o200k set 6 % of the bits
  static bool is_tail(uint8_t c) { return (c & 0xC0) == 0x80; }
  // One byte before, two after: exact.
  static size_t near_place(uint8_t a, uint8_t lead, uint8_t b) {
    return size_t{a & 63u} << 10 | size_t{lead & 15u} << 6 | (b & 63u);
  }
  static size_t far_place(uint8_t a, uint8_t b, uint8_t lead, uint8_t c, uint8_t d) {
    const uint64_t key = uint64_t{a & 63u} << 22 | uint64_t{b & 63u} << 16 | uint64_t{lead & 15u} << 12 |
                         uint64_t{c & 63u} << 6 | (d & 63u);
    return key * 0x9E3779B97F4A7C15u >> (64 - kFarBits);
  }
  void add_place(std::string_view before, std::string_view after);
  std::vector<uint64_t> near_, far_;  // bits: a token lies across
};

}  // namespace llmctl
