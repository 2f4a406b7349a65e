// SPDX-License-Identifier: Apache-2.0
// A linear quality classifier over hashed n-grams of words and characters, after fastText (Joulin et al.
// 2016, arXiv 1607.01759): logistic regression on the mean of a document's features, which for two classes
// has the decision surfaces of an averaged embedding followed by a linear layer.
//
// Features hash to 2^buckets_log2 weights with our own 64-bit hash over unsigned bytes (fastText's is
// FNV-1a over signed char: its models cannot be read here). Text is lower-cased in ASCII, any white space
// ends a word, and words carry marks < and > for their character n-grams.
// Training visits documents in an order that is a function of (seed, epoch) alone and adds in that order:
// the same bits for any number of threads and on any CPU. bits: any-cpu
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/file.h"
#include "kernels/exec.h"

namespace llmctl {

struct ClassifierOptions {
  int buckets_log2 = 21;             // 10 to 26
  int word_ngrams = 2;               // 1 to 5: n-grams of words up to this length
  int min_chars = 3, max_chars = 5;  // n-grams of characters in <word>; max 0 for none
  int epochs = 5;
  int batch = 64;              // documents that see the same weights
  double learning_rate = 0.2;  // of AdaGrad
  uint64_t seed = 1;
  int max_features = 20000;  // of one document, from its start: a bound on memory and time; at least 100
};

struct LabelledText {
  std::string text;
  bool good = false;
};

// From JSON lines {"text", "label"}; label is true/false, 1/0, or equal to `good` when it is text.
// Error{input} naming the line.
std::vector<LabelledText> read_labelled(const fs::path& file, const std::string& good);

class Classifier {
 public:
  // Error{input} when a class has no document.
  static Classifier train(std::span<const LabelledText> documents, const ClassifierOptions& options,
                          const kn::Exec& exec);
  // A safetensors file: weights (f32), bias, the options and a digest in its metadata. Error{input} when
  // it is damaged.
  static Classifier load(const fs::path& file);
  void save(const fs::path& file, bool overwrite) const;
  // P(good), in (0, 1). Any thread.
  double score(std::string_view text) const;
  const ClassifierOptions& options() const { return options_; }
  std::string digest() const;  // of options and weights

 private:
  ClassifierOptions options_;
  std::vector<float> weights_;
  double bias_ = 0;
};

// Area under the ROC curve; ties count one half. Error{input} when a class is empty.
double auroc(std::span<const double> scores, std::span<const uint8_t> good);

}  // namespace llmctl
