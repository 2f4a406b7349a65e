// SPDX-License-Identifier: Apache-2.0
// y = x W^T + b, with W (out, in) as checkpoints store it. Quantised weights are another storage of
// the same weight: forward picks the kernel by what the WeightState holds.
#pragma once

#include "core/nn/context.h"
#include "core/nn/parameters.h"

namespace llmctl {

struct Linear {
  WeightState* weight = nullptr;
  WeightState* bias = nullptr;  // or none

  // x (T, in), y (T, out), residual (T, out) or none is added before the one rounding.
  void forward(Ctx& ctx, const View& x, const View& y, const View& residual = {}) const;
  // dx (T, in) = dy W.
  void backward_input(Ctx& ctx, const View& dy, const View& dx) const;
  // Gradients of weight and bias, a part each of ctx.parts.
  void backward_weight(Ctx& ctx, const View& dy, const View& x) const;
};

}  // namespace llmctl
