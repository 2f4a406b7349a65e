// SPDX-License-Identifier: Apache-2.0
// Losses of held-out text. Every token of a document is predicted exactly once, but the first one
// where nothing stands before it, and a final end-of-text token, which is no text.
#pragma once

#include <string>
#include <vector>

#include "core/models/model.h"
#include "data/tokenizer/tokenizer.h"

namespace llmctl {

struct EvaluationDocument {
  std::vector<int32_t> ids;
  int64_t bytes = 0;              // of text that the predicted tokens stand for
  int64_t unpredicted_bytes = 0;  // of the first token where it is not predicted
};

struct EvaluationTexts {
  std::vector<EvaluationDocument> documents;
  bool bos = false;  // documents begin with the tokenizer's BOS: then all of the text is predicted
};

// From text files (one document each), JSON lines (`field`, or chat turns) and packed folders (a
// folder with .idx files). limit > 0: the first so many documents. Error{input} for ids outside
// `vocab` and when no token is left to predict.
EvaluationTexts read_evaluation_texts(const std::vector<std::string>& inputs, const std::string& field,
                                      const Tokenizer& tokenizer, int64_t vocab, int64_t limit);

// The ids of the texts cut into rows of at most `length` tokens, until there are `most` tokens.
std::vector<std::vector<int32_t>> rows_of_texts(const EvaluationTexts& texts, int64_t length, int64_t most);

struct DocumentScore {
  int64_t tokens = 0, bytes = 0;
  double nats = 0;
};
struct TextScore {
  int64_t context = 0, stride = 0, windows = 0;
  int64_t tokens = 0, bytes = 0, unpredicted_bytes = 0;
  bool bos = false;
  double nats = 0;
  // Standard errors of nats per token and per byte over windows (a ratio estimate); none below two.
  std::optional<double> token_error, byte_error;
  std::vector<DocumentScore> documents;
};

// Windows of `context` inputs, `stride` apart, within each document; a window scores the targets
// that the one before it did not reach. context 0: the model's; stride 0: the context.
TextScore score_texts(Model& model, const EvaluationTexts& texts, const Tokenizer& tokenizer, int64_t context,
                      int64_t stride, const kn::Exec& exec);

}  // namespace llmctl
