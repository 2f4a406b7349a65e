// SPDX-License-Identifier: Apache-2.0
// The two halves of a block's MLP around a non-linearity.
#pragma once

#include "core/nn/linear.h"
#include "kernels/activation.h"

namespace llmctl {

enum class MlpKind : uint8_t { swiglu, gelu_tanh, gelu_erf };

struct MlpSaved {
  View up;   // (T, 2F) [gate | up] for swiglu, else (T, F)
  View act;  // (T, F)
};

struct Mlp {
  Linear up, down;
  MlpKind kind = MlpKind::swiglu;
  int64_t width = 0;  // F

  // Without act, which follows from up.
  MlpSaved take_saved(Arena& arena, DType dtype, int64_t tokens) const;
  void forward(Ctx& ctx, const View& h, const View& residual, const View& y, const MlpSaved& saved) const;
  // dh from dy; overwrites saved.up with its gradient.
  void backward(Ctx& ctx, const View& h, const View& dy, const MlpSaved& saved, const View& dh) const;
  // saved.act from saved.up.
  void activate(Ctx& ctx, const MlpSaved& saved) const;
};

}  // namespace llmctl
