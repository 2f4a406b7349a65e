// SPDX-License-Identifier: Apache-2.0
// What quantisation costs: perplexity before and after, and the divergence of the two models'
// predictions, over the same tokens.
#pragma once

#include "core/quant/row_pass.h"

namespace llmctl {

struct Comparison {
  int64_t tokens = 0;  // predicted: every token of a row but its first
  double perplexity_before = 0, perplexity_after = 0;
  double kld = 0;  // mean over positions of KL(original || quantised), nats
  double same_top = 0;  // share of positions with the same most likely token
};

// Error{input} when no row has two tokens; Error{bug} when the models' vocabularies differ.
Comparison compare_models(Model& original, Model& quantised, const TokenRows& rows, const kn::Exec& exec);

}  // namespace llmctl
