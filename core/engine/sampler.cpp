// SPDX-License-Identifier: Apache-2.0
#include "core/engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "kernels/math.h"
#include "kernels/random.h"

namespace llmctl {
namespace {

int32_t argmax(std::span<const float> logits) {
  int32_t best = -1;
  for (size_t i = 0; i < logits.size(); ++i)
    if (std::isfinite(logits[i]) && (best < 0 || logits[i] > logits[static_cast<size_t>(best)]))
      best = static_cast<int32_t>(i);
  return best;
}

// floor(2^32 exp(x)) for x <= 0.
uint64_t weight_of(float x) {
  return static_cast<uint64_t>(kn::exp64(static_cast<double>(x)) * 4294967296.0);
}

}  // namespace

void Sampler::adjust(std::span<float> logits, const Sampling& s, const TokenCounts& counts) {
  auto in_range = [&](int32_t id) { return id >= 0 && static_cast<size_t>(id) < logits.size(); };
  if (s.repetition_penalty != 1.0f) {
    auto penalise = [&](int32_t id) {
      float& l = logits[static_cast<size_t>(id)];
      l = l > 0 ? l / s.repetition_penalty : l * s.repetition_penalty;
    };
    for (const auto& [id, n] : counts.prompt)
      if (in_range(id)) penalise(id);
    for (const auto& [id, n] : counts.generated)
      if (in_range(id) && !counts.prompt.count(id)) penalise(id);
  }
  if (s.presence_penalty != 0.0f || s.frequency_penalty != 0.0f)
    for (const auto& [id, n] : counts.generated)
      if (in_range(id))
        logits[static_cast<size_t>(id)] -= s.presence_penalty + s.frequency_penalty * static_cast<float>(n);
  for (const auto& [id, bias] : s.logit_bias)
    if (in_range(id)) logits[static_cast<size_t>(id)] += bias;
}

int32_t Sampler::draw(std::span<float> logits, const Sampling& s, const TokenCounts& counts, int64_t position) {
  adjust(logits, s, counts);
  const int32_t best = argmax(logits);
  if (best < 0 || s.temperature <= 0.0f) return best;
  const float top = logits[static_cast<size_t>(best)];
  // Ids whose weight cannot matter are left out first: those below (1 - top_p) / vocabulary cannot
  // be in the nucleus whatever they sum to.
  const bool ranked = s.top_p < 1.0f || (s.top_k > 0 && static_cast<size_t>(s.top_k) < logits.size());
  kept_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i])) continue;
    const uint64_t w = weight_of((logits[i] - top) / s.temperature);
    if (w > 0) kept_.push_back({logits[i], static_cast<int32_t>(i), w});
  }
  if (s.min_p > 0.0f) {
    const auto least = static_cast<uint64_t>(static_cast<double>(s.min_p) * 4294967296.0);
    std::erase_if(kept_, [&](const Candidate& c) { return c.weight < least && c.id != best; });
  }
  if (ranked) {
    uint64_t total = 0;
    for (const Candidate& c : kept_) total += c.weight;
    if (s.top_p < 1.0f) {
      const auto least = static_cast<uint64_t>((1.0 - static_cast<double>(s.top_p)) * static_cast<double>(total) /
                                               static_cast<double>(logits.size()));
      std::erase_if(kept_, [&](const Candidate& c) { return c.weight < least && c.id != best; });
    }
    std::sort(kept_.begin(), kept_.end(), [](const Candidate& a, const Candidate& b) {
      return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    });
    if (s.top_k > 0 && kept_.size() > static_cast<size_t>(s.top_k)) {
      kept_.resize(static_cast<size_t>(s.top_k));
      total = 0;
      for (const Candidate& c : kept_) total += c.weight;
    }
    if (s.top_p < 1.0f) {
      const auto wanted = static_cast<uint64_t>(static_cast<double>(s.top_p) * static_cast<double>(total));
      uint64_t sum = 0;
      size_t n = 0;
      while (n < kept_.size() && (n == 0 || sum < wanted)) sum += kept_[n++].weight;
      kept_.resize(n);
    }
  }
  uint64_t total = 0;
  for (const Candidate& c : kept_) total += c.weight;
  // A 64-bit fraction of the total: total < 2^32 * vocabulary fits a 128-bit product.
  const kn::RandomKey key{static_cast<uint64_t>(s.seed), static_cast<uint32_t>(s.choice), 0x53414d50u};
  const kn::RandomWords words = kn::random_words(key, static_cast<uint64_t>(position));
  const uint64_t u = static_cast<uint64_t>(words.word[0]) << 32 | words.word[1];
  uint64_t at = static_cast<uint64_t>((static_cast<unsigned __int128>(u) * total) >> 64);
  for (const Candidate& c : kept_) {
    if (at < c.weight) return c.id;
    at -= c.weight;
  }
  return best;
}

}  // namespace llmctl
