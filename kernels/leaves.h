// SPDX-License-Identifier: Apache-2.0
// How a contraction is cut so that later layouts can share it (NUMERICS rule 3).
//
// The contraction dimension is the concatenation of `parts` column blocks (Q,K,V; gate,up; or just
// one). Leaf l is the concatenation, in declared order, of the l-th slice of every block, a slice
// being ceil(width/(32*count))*32 wide. A leaf is one FMA chain from +0; leaf sums join as one
// balanced binary tree in fp32; empty leaves are skipped.
#pragma once

#include <cstdint>

namespace llmctl::kn {

// How bf16 products are summed (NUMERICS rule 6, kernels/gemm.h): a run and a model name theirs.
enum class Bf16Order : uint8_t { pair, amx32 };
constexpr const char* name_of(Bf16Order o) { return o == Bf16Order::pair ? "pair" : "amx32"; }

struct Span {
  int64_t begin, end;  // columns of the concatenated dimension
};

struct Leaves {
  static constexpr int kMax = 8, kMaxParts = 3;
  int count = 1;
  int parts = 1;
  int64_t width[kMaxParts] = {0, 0, 0};

  constexpr int64_t total() const {
    int64_t t = 0;
    for (int p = 0; p < parts; ++p) t += width[p];
    return t;
  }
  constexpr Span span(int leaf, int part) const {
    int64_t offset = 0;
    for (int p = 0; p < part; ++p) offset += width[p];
    const int64_t w = width[part], slice = (w + 32 * count - 1) / (32 * count) * 32;
    const int64_t b = leaf * slice < w ? leaf * slice : w;
    const int64_t e = b + slice < w ? b + slice : w;
    return {offset + b, offset + e};
  }
  constexpr bool empty(int leaf) const {
    for (int p = 0; p < parts; ++p)
      if (span(leaf, p).begin < span(leaf, p).end) return false;
    return true;
  }
};

// One block of `width` columns in `count` leaves.
constexpr Leaves leaves_of(int64_t width, int count = 1) {
  Leaves l;
  l.count = count;
  l.width[0] = width;
  return l;
}

}  // namespace llmctl::kn
