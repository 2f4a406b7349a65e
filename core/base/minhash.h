// SPDX-License-Identifier: Apache-2.0
// MinHash signatures of sets of 32-bit values, for rooms that see no kernels: a family of random hash
// functions (kernels/minhash.h says which) and the minimum of each over a set.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/exec.h"

namespace llmctl {

class MinhashFunctions {
 public:
  // `count` functions, the i-th a function of (seed, i) alone.
  MinhashFunctions(int64_t count, uint64_t seed);
  // `minima` gets one value a function, 2^32 - 1 for an empty set. The same bits on every instruction set.
  // Any thread.
  void minima(kn::Isa isa, std::span<const uint32_t> set, std::vector<uint32_t>& minima) const;

 private:
  int64_t count_;
  std::vector<uint32_t> a_low_, a_high_;
  std::vector<uint64_t> b_;
};

}  // namespace llmctl
