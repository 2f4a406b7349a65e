// SPDX-License-Identifier: Apache-2.0
// What attention's kernels on tensor cores share: which rows of which sequence are a block's. Internal to
// kernels/*.cu.
#pragma once

#include "kernels/attention_device.h"
#include "kernels/mma_device.h"

namespace llmctl::kn {
namespace {

struct Tile {
  int sequence, index;  // -1: none
};

// Which tile of which sequence is the block's: tiles of all sequences, counted in order. All threads.
__device__ inline void find_tile(const Sequence* sequences, int64_t count, int64_t group, int rows, Tile* found) {
  if (threadIdx.x == 0) *found = {-1, 0};
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int before = 0;
  if (threadIdx.x < 32)
    for (int64_t first = 0; first < count; first += 32) {
      const int64_t s = first + lane;
      const int tiles = s < count ? static_cast<int>((sequences[s].queries * group + rows - 1) / rows) : 0;
      int upto = tiles;
      for (int w = 1; w < 32; w *= 2) {
        const int left = __shfl_up_sync(0xffffffffu, upto, w);
        if (lane >= w) upto += left;
      }
      const int mine = static_cast<int>(blockIdx.x) - before - (upto - tiles);
      if (mine >= 0 && mine < tiles) *found = {static_cast<int>(s), mine};
      before += __shfl_sync(0xffffffffu, upto, 31);
    }
  __syncthreads();
}

__device__ inline uint32_t packed(float low, float high) {
  return narrow(low) | static_cast<uint32_t>(narrow(high)) << 16;
}

// At most so many tiles, wherever the sequences end: those that are too many return at once.
inline unsigned most_tiles(int64_t rows, int64_t each, int64_t sequences) {
  return static_cast<unsigned>((rows + each - 1) / each + sequences);
}

}  // namespace
}  // namespace llmctl::kn
