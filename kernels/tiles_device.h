// SPDX-License-Identifier: Apache-2.0
// Digests on CUDA: a block is a tile, a warp one of its rows at a time (tiles.h is the CPU's).
// Internal to kernels/*.cu.
#pragma once

#include "kernels/digest.h"
#include "kernels/fixed.h"
#include "kernels/optimizer.h"
#include "kernels/rows_device.h"

namespace llmctl::kn {
namespace {

constexpr int kWarps = kThreads / 32;

// The part of a tile inside the matrix.
struct DeviceTile {
  int64_t tile_row, tile_col, top, left;
  int rows, n;
};
__device__ inline DeviceTile device_tile(int64_t rows, int64_t cols) {
  const int64_t across = (cols + kTileCols - 1) / kTileCols;
  DeviceTile t;
  t.tile_row = blockIdx.x / across, t.tile_col = blockIdx.x % across;
  t.top = t.tile_row * kTileRows, t.left = t.tile_col * kTileCols;
  t.rows = static_cast<int>(rows - t.top < kTileRows ? rows - t.top : kTileRows);
  t.n = static_cast<int>(cols - t.left < kTileCols ? cols - t.left : kTileCols);
  return t;
}

__device__ inline void add_pair(RowSums& s, uint32_t w0, uint32_t w1, int pair) {
  const RowSums p = hash_pair(w0, w1, pair);
  s.s1 += p.s1, s.s2 += p.s2;
}
// Words of n elements filled to a multiple of 16, in pairs.
__device__ inline int pairs_of(int n, int words_each) {
  return (n * words_each + 15) / 16 * 8;
}

// A row of n elements by the 32 threads of a warp: each takes every 32nd pair.
template <class T>
__device__ inline RowSums row_words(const T* p, int n, int lane) {
  RowSums s;
  for (int pair = lane; pair < pairs_of(n, 1); pair += 32) {
    const uint32_t w0 = 2 * pair < n ? p[2 * pair] : 0, w1 = 2 * pair + 1 < n ? p[2 * pair + 1] : 0;
    add_pair(s, w0, w1, pair);
  }
  return s;
}
__device__ inline RowSums row_words(const int64_t* p, int n, int lane) {
  RowSums s;
  for (int pair = lane; pair < pairs_of(n, 2); pair += 32) {
    const uint64_t w = pair < n ? static_cast<uint64_t>(p[pair]) : 0;
    add_pair(s, static_cast<uint32_t>(w), static_cast<uint32_t>(w >> 32), pair);
  }
  return s;
}
__device__ inline RowSums row_words(const float* p, int n, int lane) {
  return row_words(reinterpret_cast<const uint32_t*>(p), n, lane);
}

// A gradient is hashed as fixed point, however it is stored.
__device__ inline RowSums grad_words(const int64_t* p, int n, int lane) {
  return row_words(p, n, lane);
}
__device__ inline RowSums grad_words(const float* p, int n, int lane) {
  RowSums s;
  for (int pair = lane; pair < pairs_of(n, 2); pair += 32) {
    const auto w = pair < n ? static_cast<uint64_t>(to_fixed(p[pair])) : uint64_t{0};
    add_pair(s, static_cast<uint32_t>(w), static_cast<uint32_t>(w >> 32), pair);
  }
  return s;
}

__device__ inline RowSums warp_sum(RowSums s) {
  for (int w = 16; w > 0; w /= 2) {
    s.s1 += __shfl_xor_sync(0xffffffffu, static_cast<unsigned long long>(s.s1), w);
    s.s2 += __shfl_xor_sync(0xffffffffu, static_cast<unsigned long long>(s.s2), w);
  }
  return s;
}

// Adds what lane 0 of every warp holds and stores it; all threads of the block.
__device__ inline void store_tile(Hash128 h, int64_t* out) {
  __shared__ uint64_t part[kWarps][2];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (threadIdx.x % 32 == 0) part[warp][0] = h.low, part[warp][1] = h.high;
  __syncthreads();
  if (threadIdx.x == 0) {
    Hash128 sum;
    for (int i = 0; i < kWarps; ++i) sum = sum + Hash128{part[i][0], part[i][1]};
    out[0] = static_cast<int64_t>(sum.low);
    out[1] = static_cast<int64_t>(sum.high);
  }
  __syncthreads();
}

// out[2 k..] += the sum of the tiles' k-th digests; one thread for each of `digests`.
__global__ void join_tiles(const int64_t* tile, int64_t tiles, int digests, int64_t* out, bool replace) {
  const int k = static_cast<int>(threadIdx.x);
  if (k >= digests) return;
  Hash128 sum;
  if (!replace) sum = {static_cast<uint64_t>(out[2 * k]), static_cast<uint64_t>(out[2 * k + 1])};
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t* p = tile + 2 * (t * digests + k);
    sum = sum + Hash128{static_cast<uint64_t>(p[0]), static_cast<uint64_t>(p[1])};
  }
  out[2 * k] = static_cast<int64_t>(sum.low);
  out[2 * k + 1] = static_cast<int64_t>(sum.high);
}

}  // namespace
}  // namespace llmctl::kn
