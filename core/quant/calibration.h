// SPDX-License-Identifier: Apache-2.0
// Second moments of the inputs of linear layers: H = X^T X over calibration tokens.
#pragma once

#include <map>
#include <string>

#include "core/quant/row_pass.h"

namespace llmctl {

struct InputMoments {
  int64_t inputs = 0;           // K
  std::vector<double> hessian;  // (K,K)
  // The diagonal plus a hundredth of its mean: how much an error in a column of W matters.
  std::vector<float> importance() const;
};

// One pass over `rows`; moments of the weights named (WeightState::spec.name). Within a row f32 by
// the weight-gradient product, rows joined in f64 in order: the same bits for any thread count.
std::map<std::string, InputMoments> collect_moments(RowPass& pass, const TokenRows& rows,
                                                    const std::vector<std::string>& weights, const kn::Exec& exec);

}  // namespace llmctl
