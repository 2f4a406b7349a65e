// SPDX-License-Identifier: Apache-2.0
// Some CPUs run vdpbf16ps at a quarter of the rate of their FMAs, others at the same rate. The two
// ways have the same bits, so the faster one may be chosen by a measurement.
#include "kernels/simd.h"

#if KN_ISA == 3
#include <time.h>

#include "kernels/gemm_tile.h"

namespace llmctl::kn {

namespace {

// Nanoseconds of a tile over operands in L1: 64 pairs, or their 128 elements.
template <class W>
int64_t time_of_tile(const float* zeros, float* acc) {
  const W* p = reinterpret_cast<const W*>(zeros);
  const int64_t steps = std::is_same_v<W, float> ? 128 : 64;
  TileArgs<W> t;
  t.a = t.w = p;
  t.lda = 0, t.panel_stride = steps * 16, t.steps = steps;
  t.acc = acc, t.acc_stride = 32, t.resume = false;
  timespec from, to;
  clock_gettime(CLOCK_MONOTONIC, &from);
  for (int i = 0; i < 4; ++i) {
    tile_chain<W, true, kMaxRows, 2>(t);
    asm volatile("" ::"r"(acc) : "memory");  // or the compiler drops what nobody reads
  }
  clock_gettime(CLOCK_MONOTONIC, &to);
  return (to.tv_sec - from.tv_sec) * 1000000000 + (to.tv_nsec - from.tv_nsec);
}

bool measure() {
  alignas(64) static const float zeros[2 * 128 * 16] = {};
  alignas(64) float acc[kMaxRows * 2 * 16];
  int64_t pairs = 1 << 30, fmas = 1 << 30;
  for (int i = 0; i < 30; ++i) {  // the shortest of each is the undisturbed one
    const int64_t p = time_of_tile<Pair>(zeros, acc), f = time_of_tile<float>(zeros, acc);
    pairs = p < pairs ? p : pairs;
    fmas = f < fmas ? f : fmas;
  }
  return pairs * 8 < fmas * 9;  // widening costs about an eighth
}

}  // namespace

bool pair_instruction_pays() {
  static const bool pays = measure();
  return pays;
}

}  // namespace llmctl::kn
#endif
