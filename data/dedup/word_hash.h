// SPDX-License-Identifier: Apache-2.0
// Hashes of words and of n words in a row, for comparing texts: 64 bits, the same on every machine, no
// defence against an adversary. A word is folded by 64 x 64 -> 128 bit products over 16 bytes at a time;
// n in a row are the polynomial of their hashes mod 2^64, which slides in constant time, spread at the end.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace llmctl {

inline uint64_t fold_product(uint64_t a, uint64_t b) {
  const unsigned __int128 p = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(p) ^ static_cast<uint64_t>(p >> 64);
}

inline uint64_t word_hash(std::string_view word) {
  constexpr uint64_t k0 = 0x9E3779B97F4A7C15u, k1 = 0xD1B54A32D192ED03u, k2 = 0x8CB92BA72F3D8DD7u;
  const char* p = word.data();
  size_t n = word.size();
  uint64_t h = k2 ^ n, a = 0, b = 0;
  for (; n > 16; n -= 16, p += 16) {
    std::memcpy(&a, p, 8);
    std::memcpy(&b, p + 8, 8);
    h = fold_product(h ^ a ^ k0, b ^ k1);
  }
  if (n >= 8) {  // the two windows may overlap
    std::memcpy(&a, p, 8);
    std::memcpy(&b, p + n - 8, 8);
  } else if (n >= 4) {
    uint32_t low = 0, high = 0;
    std::memcpy(&low, p, 4);
    std::memcpy(&high, p + n - 4, 4);
    a = low, b = high;
  } else if (n > 0) {
    a = static_cast<uint64_t>(static_cast<uint8_t>(p[0])) << 16 |
        static_cast<uint64_t>(static_cast<uint8_t>(p[n / 2])) << 8 | static_cast<uint8_t>(p[n - 1]);
    b = n;
  }
  return fold_product(fold_product(a ^ k0 ^ h, b ^ k1), k2 ^ h);
}

// body(value) for every n hashes in a row, in order; none when there are fewer. n is part of the value.
template <class Body>
void for_each_gram(std::span<const uint64_t> hashes, size_t n, Body&& body) {
  constexpr uint64_t kBase = 0xBF58476D1CE4E5BDu;  // 5 mod 8: of the largest order mod 2^64
  if (n == 0 || hashes.size() < n) return;
  uint64_t value = 0, leaving = 1;
  for (size_t i = 0; i < n; ++i) leaving *= kBase;
  for (size_t i = 0; i < hashes.size(); ++i) {
    value = value * kBase + hashes[i] - (i >= n ? hashes[i - n] * leaving : 0);
    if (i + 1 < n) continue;
    uint64_t x = value + n * 0x9E3779B97F4A7C15u;  // a bijection of value from here
    x = (x ^ (x >> 32)) * 0xD6E8FEB86659FD93u;
    x = (x ^ (x >> 32)) * 0xD6E8FEB86659FD93u;
    body(x ^ (x >> 32));
  }
}

// The hashes of the words of a simplified text (words separated by one space).
inline void hash_words(std::string_view simple, std::vector<uint64_t>& hashes) {
  hashes.clear();
  for (size_t begin = 0; begin < simple.size();) {
    size_t end = begin;
    while (end < simple.size() && simple[end] != ' ') ++end;
    hashes.push_back(word_hash(simple.substr(begin, end - begin)));
    begin = end + 1;
  }
}

}  // namespace llmctl
