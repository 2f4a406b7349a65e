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
  // Of a mixture of experts (core/nn/moe.h), whose T k rows are sorted by expert:
  View logits, index, weight;  // (T,E) f32, (T,k) i32 and f32: kernels/router.h
  View starts, token, place;   // i32: kernels/experts.h
  // Of the experts held here: runs of rows in up and act, i32, and how many rows each expert gets of each part
  // of each expert-parallel rank, (ranks, parts, E) i32: core/nn/expert_rows.h.
  View runs, counts;
  View out;                    // (T k, D), with a shared expert (T k + T, D): what experts make of their rows
  // Of a shared expert: (T, 2F) and (T, F) of its own F, its gate's logits (T,1) f32, and place and weight
  // with its slot, (T,k + 1).
  View shared_up, shared_act, gate, place_all, weight_all;
};

struct Mlp {
  Linear up, down;
  MlpKind kind = MlpKind::swiglu;
  int64_t width = 0;  // F

  // Without act, which follows from up.
  MlpSaved take_saved(Arena& arena, DType dtype, int64_t tokens, int64_t parts = 1) const;
  void take_activation(Arena& arena, DType dtype, int64_t tokens, MlpSaved& saved) const {
    saved.act = arena.take(dtype, {tokens, width});
  }
  void forward(Ctx& ctx, const View& h, const View& residual, const View& y, const MlpSaved& saved) const;
  // dh from dy; overwrites saved.up with its gradient.
  void backward(Ctx& ctx, const View& h, const View& dy, const MlpSaved& saved, const View& dh) const;
  // saved.act from saved.up.
  void activate(Ctx& ctx, const MlpSaved& saved) const;
};

}  // namespace llmctl
