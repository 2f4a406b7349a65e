// SPDX-License-Identifier: Apache-2.0
// RMSNorm or, when it has a bias, LayerNorm.
#pragma once

#include "core/nn/context.h"
#include "core/nn/parameters.h"

namespace llmctl {

struct NormSaved {
  View rstd, mean;  // (T) f32; mean only for LayerNorm
};

struct Norm {
  WeightState* weight = nullptr;
  WeightState* bias = nullptr;
  float eps = 1e-5f;

  NormSaved take_saved(Arena& arena, int64_t tokens) const;
  // y (T,D) from x (T,D); saved may be empty.
  void forward(Ctx& ctx, const View& x, const View& y, const NormSaved& saved) const;
  // dx = dresidual + the gradient through the norm; weight gradients by parts.
  void backward(Ctx& ctx, const View& dy, const View& x, const NormSaved& saved, const View& dresidual,
                const View& dx) const;
};

}  // namespace llmctl
