// SPDX-License-Identifier: Apache-2.0
// A document as its shingles: every n words (or code points) in a row of its simplified text, hashed to 32
// bits (minhash.h says what that costs in exactness).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/dedup/minhash.h"

namespace llmctl {

// Shingles of texts one after the other; memory is reused. One thread each.
class Shingler {
 public:
  explicit Shingler(const MinhashOptions& options);
  // In the order of the text, repeated ones repeated. One for a text of fewer than n words, none for a
  // text without any. Valid until the next call.
  const std::vector<uint32_t>& shingles(std::string_view text);

 private:
  void hash_code_points();
  MinhashOptions options_;
  std::string simple_;
  std::vector<uint64_t> hashes_;
  std::vector<uint32_t> shingles_;
};

// Sorted, each once.
void make_set(std::vector<uint32_t>& shingles);
// |a and b| / |a or b| of two such sets; 0 for two empty ones.
double jaccard(std::span<const uint32_t> a, std::span<const uint32_t> b);

}  // namespace llmctl
