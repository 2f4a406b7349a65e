// SPDX-License-Identifier: Apache-2.0
// The forward pass over one row of tokens at a time, with what calibration and comparison need of it:
// every product's input, hidden states, logits.
#pragma once

#include <span>
#include <vector>

#include "core/models/model.h"
#include "core/nn/token_batch.h"

namespace llmctl {

// Rows of tokens, each a document (or the start of one) of 1..context tokens.
using TokenRows = std::vector<std::vector<int32_t>>;

class RowPass {
 public:
  static constexpr int64_t kLogitRows = 64;
  // Plans and maps scratch. Error{usage} when max_tokens is outside the model's context.
  RowPass(Model& model, int64_t max_tokens, const kn::Exec& exec);

  // hidden (T,D) after the final norm; lives until the next call. Error{input} for ids the model
  // does not have and for rows that are empty or too long.
  View hidden(std::span<const int32_t> ids, const LinearObserver* observe = nullptr);

  struct Scores {
    View logits;     // (R, padded vocab) f32
    View loss, lse;  // (R) f32: of each row's target, and log of the sum of exponentials
  };
  // Of rows [begin, begin + count) of the last hidden(), count <= kLogitRows; live until the next
  // call. targets (count): ids or -1.
  Scores scores(const RowRange& rows, std::span<const int32_t> targets);

  Model& model() { return model_; }

 private:
  View forward(const TokenBatch& batch, Ctx& ctx);
  Scores score(Ctx& ctx, const RowRange& rows);
  Model& model_;
  const kn::Exec& exec_;
  int64_t max_tokens_;
  Arena fixed_, scratch_;
  BatchBuilder builder_;
  View targets_, hidden_;
  int64_t mark_ = 0;
};

}  // namespace llmctl
