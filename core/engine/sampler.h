// SPDX-License-Identifier: Apache-2.0
// From a row of logits to a token (NUMERICS rule 21). Probabilities become integers of 2^-32 of the
// largest, so that top-p sums and the draw are exact and order-free; the draw is a function of
// (seed, choice, position) alone. Ties go to the lowest id.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/engine/engine.h"

namespace llmctl {

// How often each id stands in the prompt and in what was generated.
struct TokenCounts {
  std::unordered_map<int32_t, int32_t> prompt, generated;
};

class Sampler {
 public:
  // logits (vocab) is overwritten. position: index of the token to be drawn in its sequence.
  // Returns -1 when no logit is finite.
  int32_t draw(std::span<float> logits, const Sampling& sampling, const TokenCounts& counts, int64_t position);

 private:
  struct Candidate {
    float logit;
    int32_t id;
    uint64_t weight;
  };
  void adjust(std::span<float> logits, const Sampling& s, const TokenCounts& counts);
  std::vector<Candidate> kept_;
};

}  // namespace llmctl
