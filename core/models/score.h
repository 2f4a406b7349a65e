// SPDX-License-Identifier: Apache-2.0
// Losses of given tokens: the forward pass of training, without its backward. Used by validation,
// evaluation and quantisation reports.
#pragma once

#include "core/models/model.h"
#include "core/nn/token_batch.h"

namespace llmctl {

class Scorer {
 public:
  // Plans and maps scratch for passes of at most max_tokens tokens.
  Scorer(Model& model, int64_t max_tokens, const kn::Exec& exec);

  BatchBuilder& batch() { return builder_; }
  // Negative log-likelihoods in nats, one per row of batch() (0 where the target is -1), on the host. The
  // view lives until the next call.
  View losses();
  // Logits (R, padded vocab) f32 of the listed rows.
  View logits(const std::vector<int32_t>& rows);
  // Of the passes so far, see core/nn/expert_rows.h: not 0, and what they came to is of no use.
  double expert_load() const { return expert_load_; }

 private:
  Ctx context(const kn::Exec& exec);
  View forward();
  View on_host(View v);
  Model& model_;
  const kn::Exec& exec_;
  Arena fixed_, scratch_;
  BatchBuilder builder_;
  double expert_load_ = 0;
  std::vector<float> result_;  // of a GPU's pass
};

}  // namespace llmctl
