// SPDX-License-Identifier: Apache-2.0
// N-gram language models with interpolated modified Kneser-Ney smoothing (Chen and Goodman 1998, eq. 26),
// estimated out of core by sorting (Heafield et al. 2013, as KenLM's lmplz does: lower orders count
// distinct left neighbours, n-grams that begin with <s> keep their counts, unigrams mix with the uniform
// distribution over the vocabulary with <unk> and without <s>).
//
// A sentence is a line; its words are what white space separates (unit words) or its bytes (unit bytes).
// Every sentence is scored with </s>. log10, as in ARPA files.
// Memory: the vocabulary plus memory_bytes; sorted runs lie in `scratch`. The same model for any limit.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/file.h"

namespace llmctl {

enum class NgramUnit : uint8_t { words, bytes };

struct NgramOptions {
  int order = 5;  // 1 to 8
  NgramUnit unit = NgramUnit::words;
  uint64_t memory_bytes = uint64_t{256} << 20;  // of sort buffers; at least 1 MiB
  fs::path scratch;                             // a folder for sorted runs
  // Corpora too small to show n-grams of each count 1 to 4 have no discounts of their own: .5, 1, 1.5
  // then, as lmplz --discount_fallback. Error{input} without.
  bool discount_fallback = true;
};

class NgramTrainer {
 public:
  explicit NgramTrainer(NgramOptions options);
  ~NgramTrainer();
  void add(std::string_view text);  // each line a sentence; blank lines are none
  // Estimates and writes the model file. Error{input} when nothing was added. Once.
  void finish(const fs::path& model, bool overwrite);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct NgramScore {
  double log10 = 0;     // sum over tokens
  uint64_t tokens = 0;  // words and one </s> per line
  uint64_t unknown = 0;
  double perplexity() const;  // 10^(-log10 / tokens); 0 without tokens
};

// A model file, mapped. Any thread.
class NgramModel {
 public:
  explicit NgramModel(const fs::path& model);     // Error{input} when it is damaged or of another kind
  NgramScore score(std::string_view text) const;  // of all its lines
  int order() const;
  NgramUnit unit() const;
  uint64_t ngrams(int n) const;  // of length n, 1 to order()
  void write_arpa(const fs::path& file, bool overwrite) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// A model file from an ARPA file (.gz, .zst). Error{input} naming the line.
void import_arpa(const fs::path& arpa, const fs::path& model, NgramUnit unit, bool overwrite);

}  // namespace llmctl
