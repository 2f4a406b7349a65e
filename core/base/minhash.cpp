// SPDX-License-Identifier: Apache-2.0
#include "core/base/minhash.h"

#include "kernels/minhash.h"
#include "kernels/random.h"

namespace llmctl {

MinhashFunctions::MinhashFunctions(int64_t count, uint64_t seed) : count_(count) {
  const int64_t padded = (count + 15) / 16 * 16;
  for (int64_t i = 0; i < padded; ++i) {
    const uint64_t at = 2 * static_cast<uint64_t>(i);
    const uint64_t a = kn::mix64(kn::mix64(seed + 0x9E3779B97F4A7C15u) + (at + 1) * 0x9E3779B97F4A7C15u);
    const uint64_t b = kn::mix64(kn::mix64(seed + 0x9E3779B97F4A7C15u) + (at + 2) * 0x9E3779B97F4A7C15u);
    a_low_.push_back(static_cast<uint32_t>(a));
    a_high_.push_back(static_cast<uint32_t>(a >> 32));
    b_.push_back(b);
  }
}

void MinhashFunctions::minima(kn::Isa isa, std::span<const uint32_t> set,
                              std::vector<uint32_t>& minima) const {
  minima.resize(a_low_.size());
  const auto functions = static_cast<int64_t>(a_low_.size());
  kn::minhash(isa, {a_low_.data(), a_high_.data(), b_.data(), functions}, set.data(),
              static_cast<int64_t>(set.size()), minima.data());
  minima.resize(static_cast<size_t>(count_));
}

}  // namespace llmctl
