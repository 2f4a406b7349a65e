// SPDX-License-Identifier: Apache-2.0
// GPTQ (Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: accurate post-training quantization for
// generative pre-trained transformers", 2022): columns are quantised one after another, and what a
// column loses is made up by the columns after it, by the inverse of H = X^T X of the layer's
// inputs. Our own code, f64 throughout, plain +, -, *, / and sqrt in a fixed order: the same result
// for any number of threads.
#pragma once

#include "core/quant/grid.h"

namespace llmctl {

// U upper triangular (K,K) row-major with (H + damping * mean(diag H) I)^-1 = U^T U, from H (K,K)
// f64. The damping is 0.01, ten and a hundred times that where rounding left H indefinite. Inputs that
// never occurred (a zero on the diagonal) give and take no error. Error{input} when H is not finite
// or stays indefinite.
std::vector<double> inverse_factor(const std::vector<double>& hessian, int64_t k, const kn::Exec& exec);

// w (N,K) f32 on the grid, given the factor; the scale of a group is chosen when its first column is
// reached, weighted by `importance` (K) (the diagonal of H).
QuantMatrix quantise_gptq(const View& w, const Grid& grid, const std::vector<double>& factor,
                          const std::vector<float>& importance, const kn::Exec& exec);

}  // namespace llmctl
