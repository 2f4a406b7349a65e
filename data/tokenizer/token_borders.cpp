// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/token_borders.h"

#include <algorithm>
#include <utility>

namespace llmctl {

TokenBorders::TokenBorders() : near_(65536 / 64), far_((size_t{1} << kFarBits) / 64) {}

void TokenBorders::add(std::string_view token) {
  for (size_t at = 1; at < token.size(); ++at) {
    if ((static_cast<uint8_t>(token[at]) & 0xF0) != 0xE0) continue;
    const size_t before = std::min<size_t>(at, 2);
    add_place(token.substr(at - before, before), token.substr(at, 3));
  }
}

// What the token leaves open may be any continuation byte: all of them are set.
void TokenBorders::add_place(std::string_view before, std::string_view after) {
  uint8_t known[5] = {};  // two before, three after
  bool open[5];
  for (size_t i = 0; i < 5; ++i) {
    open[i] = i < 2 ? i + before.size() < 2 : i - 2 >= after.size();
    if (!open[i]) known[i] = static_cast<uint8_t>(i < 2 ? before[i + before.size() - 2] : after[i - 2]);
    if (!open[i] && i != 2 && !is_tail(known[i])) return;  // no place between such characters
  }
  const auto bytes = [&](size_t i) -> std::pair<int, int> {
    return open[i] ? std::pair(0x80, 0xC0) : std::pair<int, int>(known[i], known[i] + 1);
  };
  const auto each = [&](size_t i, auto&& use) {
    for (auto [b, last] = bytes(i); b < last; ++b) use(static_cast<uint8_t>(b));
  };
  each(1, [&](uint8_t b) {
    each(3, [&](uint8_t c) {
      if (open[0] && open[4]) {  // too many for the other table
        const size_t place = near_place(b, known[2], c);
        near_[place / 64] |= uint64_t{1} << place % 64;
        return;
      }
      each(0, [&](uint8_t a) {
        each(4, [&](uint8_t d) {
          const size_t place = far_place(a, b, known[2], c, d);
          far_[place / 64] |= uint64_t{1} << place % 64;
        });
      });
    });
  });
}

}  // namespace llmctl
