// SPDX-License-Identifier: Apache-2.0
// MinHash signatures of sets of 32-bit values. bits: any-cpu (integers only)
//
// h_i(x) = ((a_i x + b_i) mod 2^64) >> 32 over the members x of the set: multiply-shift, strongly universal
// for 64 random bits in a_i and b_i (Dietzfelbinger, "Universal hashing and k-wise independent random
// variables via integer arithmetic without primes", 1996). A CPU kernel only: its caller is bound by reading
// text.
#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace llmctl::kn {

// `functions` is a multiple of 16. Arrays belong to the caller and need no alignment.
struct MinhashFamily {
  const uint32_t* a_low = nullptr;   // (functions)
  const uint32_t* a_high = nullptr;  // (functions)
  const uint64_t* b = nullptr;       // (functions)
  int64_t functions = 0;
};

// minima[i] = min over x of h_i(x); 2^32 - 1 for an empty set. On the calling thread; any thread.
void minhash(Isa isa, const MinhashFamily& family, const uint32_t* x, int64_t n, uint32_t* minima);

}  // namespace llmctl::kn
