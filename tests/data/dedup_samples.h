// SPDX-License-Identifier: Apache-2.0
// Documents with planted copies, threads, and answers by brute force, for the tests of deduplication.
#pragma once

#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <vector>

#include "data/dedup/minhash.h"
#include "data/packed/counter_random.h"
#include "kernels/exec.h"
#include "samples.h"

namespace llmctl {

struct Threads {
  explicit Threads(int n) : pool(n) {
    exec.pool = &pool;
    exec.isa = kn::supported_isas().front();
  }
  kn::ThreadPool pool;
  kn::Exec exec;
};

struct SampleDocument {
  uint64_t id = 0;
  uint32_t priority = 0;
  std::string text;
};

inline std::string join_words(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& w : words) out += (out.empty() ? "" : " ") + w;
  return out;
}

// Words of a vocabulary of 4,000 whose small numbers are frequent.
class WordSource {
 public:
  explicit WordSource(uint64_t seed) : random_(seed, 7) {}
  std::string word() {
    uint64_t n = random_.below(4000);
    n = n * random_.below(4000) / 4000;
    std::string out;
    for (uint64_t x = keyed_bits(3, n) % 400000 + 30; x > 0; x /= 26) out += static_cast<char>('a' + x % 26);
    return out;
  }
  std::vector<std::string> words(uint64_t n) {
    std::vector<std::string> out;
    for (uint64_t i = 0; i < n; ++i) out.push_back(word());
    return out;
  }
  // A copy with single words changed here and there; `similarity` is what 5-word shingles should come to.
  std::vector<std::string> edited(std::vector<std::string> words, double similarity) {
    const double share = (1 - similarity) / (5 * (1 + similarity));
    const auto edits = static_cast<uint64_t>(share * static_cast<double>(words.size()) + 0.5);
    for (uint64_t e = 0; e < edits; ++e) words[random_.below(words.size())] = word();
    return words;
  }
  CounterRandom& random() { return random_; }

 private:
  CounterRandom random_;
};

// `families` documents of 60 to 400 words, half of them with one to three copies at .5 to 1, shuffled.
inline std::vector<SampleDocument> sample_documents(uint64_t families, uint64_t seed) {
  WordSource source(seed);
  std::vector<SampleDocument> out;
  for (uint64_t f = 0; f < families; ++f) {
    const auto original = source.words(60 + source.random().below(340));
    const uint64_t copies = f % 2 ? 1 + source.random().below(3) : 0;
    for (uint64_t c = 0; c <= copies; ++c) {
      const double similarity = c == 0 ? 1 : 0.5 + 0.05 * static_cast<double>(source.random().below(11));
      out.push_back({0, static_cast<uint32_t>(source.random().below(3)),
                     join_words(source.edited(original, similarity))});
    }
  }
  const Permutation shuffle(out.size(), seed);
  for (size_t i = 0; i < out.size(); ++i) out[i].id = uint64_t{i % 5} << 40 | shuffle(i);
  return out;
}

inline std::vector<DedupText> views(const std::vector<SampleDocument>& documents) {
  std::vector<DedupText> out;
  for (const SampleDocument& d : documents) out.push_back({d.id, d.priority, d.text});
  return out;
}

}  // namespace llmctl
