// SPDX-License-Identifier: Apache-2.0
#include "core/train/collect.h"

#include <cstring>

namespace llmctl {

void add_bits(Comm& comm, std::span<double> values, CommLabel label) {
  if (comm.size() == 1) return;
  std::vector<int64_t> bits(values.size());
  std::memcpy(bits.data(), values.data(), values.size_bytes());
  comm.all_reduce(bits, CommOp::sum, label);
  std::memcpy(values.data(), bits.data(), values.size_bytes());
}

// 32 bits at a time, whose sums over any number of ranks fit.
void add_digests(Comm& comm, std::span<Digest> digests, CommLabel label) {
  if (comm.size() == 1) return;
  constexpr uint64_t kLow = 0xffffffff;
  std::vector<int64_t> quarters;
  for (const Digest& d : digests)
    for (const uint64_t part : {d.low & kLow, d.low >> 32, d.high & kLow, d.high >> 32})
      quarters.push_back(static_cast<int64_t>(part));
  comm.all_reduce(quarters, CommOp::sum, label);
  for (size_t i = 0; i < digests.size(); ++i) {
    const auto q = [&](size_t k) { return static_cast<uint64_t>(quarters[4 * i + k]); };
    digests[i] = {q(0), 0};
    digests[i] += {q(1) << 32, q(1) >> 32};
    digests[i] += {0, q(2)};
    digests[i] += {0, q(3) << 32};
  }
}

}  // namespace llmctl
