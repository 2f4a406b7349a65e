// SPDX-License-Identifier: Apache-2.0
// A mixture of experts in the place of a block's MLP: a router gives each token k of E experts, each a
// SwiGLU MLP, and their outputs are summed with the router's weights (Mixtral, Qwen3-MoE). Qwen2-MoE adds an
// expert that every token has, weighted by the sigmoid of a gate. Dropless, in training and in serving: a
// token's result depends on nothing but the token.
//
// Rounding points, beside those of the products and of kernels/router.h and kernels/experts.h: an expert's
// output is rounded to the compute dtype before it is weighted; dlogits and dgate are rounded to it; dh is
// rounded when the router's share is there, and as the shared expert's, its gate's and the experts' join.
//
// An expert's weight gradient is one chain over its rows of a part, in (unit, position) order; bf16 pairs and
// blocks restart at a part, not at sequences. A part is ctx.parts_per_expert_part units, or one (unit, chunk)
// where sequences come in chunks, as of every other weight. Losses are a unit's: what its chunks counted is
// summed, over context-parallel ranks too, before anything is made of it.
//
// Expert parallel (expert_rows.h): a rank computes the rows of all ranks for the experts that it holds. Tensor
// parallel: up is cut by rows and down by columns, and roots meet as in every layer (linear.h); the router, the
// shared expert's gate, sorting and combining are the same at all of the ranks.
#pragma once

#include "core/nn/expert_rows.h"

namespace llmctl {

// The shape of the mixtures of a model, and which layers have one.
struct MoeConfig {
  int64_t experts = 0;    // 0: no layer has
  int64_t per_token = 2;  // k
  int64_t width = 0;      // of an expert
  int64_t shared_width = 0;  // of the shared expert; 0: there is none
  bool renormalise = true;  // weights of a token sum to 1
  // A layer l has experts when (l + 1) % step == 0 and it is not listed.
  int64_t step = 1;
  std::vector<int64_t> dense_layers = {};
  int leaves = 1;  // of an expert's width (NUMERICS rule 3); the shared one's has those of MLPs
  // The losses' coefficients: balance is transformers' router_aux_loss_coef.
  double balance_coef = 0, z_coef = 0;

  bool in_layer(int64_t layer) const;
  int64_t layers_of(int64_t layers) const;  // that have experts
};

struct Expert {
  Linear up, down;
};

struct Moe {
  Linear router;
  std::vector<Expert> experts;
  int64_t width = 0, per_token = 0;
  bool renormalise = true;
  // Of the losses' gradients, for one (layer, token) of a unit of n of them: balance / n^2, z / n.
  double balance = 0, z = 0;
  int64_t layers = 1;  // n is layers times the unit's tokens, of all its chunks
  // The expert that every token has, and its gate, or none (width 0).
  Mlp shared = {};
  Linear shared_gate = {};
  ExpertShare share = {};  // of the experts, those that this rank holds

  MlpSaved take_saved(Arena& arena, DType dtype, int64_t tokens, int64_t parts = 1) const;
  void take_activation(Arena& arena, DType dtype, int64_t tokens, MlpSaved& saved) const {
    saved.act = arena.take(dtype, {share.room(tokens), width});
    if (shared.width > 0) saved.shared_act = arena.take(dtype, {tokens, shared.width});
  }
  void forward(Ctx& ctx, const View& h, const View& residual, const View& y, const MlpSaved& saved) const;
  void backward(Ctx& ctx, const View& h, const View& dy, const MlpSaved& saved, const View& dh) const;
  void activate(Ctx& ctx, const MlpSaved& saved) const;
  // Adds a training forward's routing to ctx.router_stats, part by part.
  void count(Ctx& ctx, const MlpSaved& saved) const;

 private:
  // Which of an expert's weights, and which way.
  struct Operand {
    Linear Expert::*linear;
    View WeightState::*panels;
    kn::Leaves Slice::*leaves;
    bool Slice::*cut;  // its contraction, over tensor-parallel ranks
  };
  bool multiply_together(Ctx& ctx, const Operand& o, const View& x, const View& y, const MlpSaved& saved) const;
  // Products of the rows here with their experts' weights: y of x, or dx of dy.
  void forward_rows(Ctx& ctx, Linear Expert::*which, const View& x, const View& y, const MlpSaved& saved) const;
  void backward_rows(Ctx& ctx, Linear Expert::*which, const View& dy, const View& dx, const MlpSaved& saved) const;
  void route(Ctx& ctx, const View& h, const MlpSaved& saved) const;
  void forward_shared(Ctx& ctx, const View& h, const MlpSaved& saved) const;
  // Adds to dh; dout (T,D) is the gradient of the shared expert's output, dgate (T,1) of its gate's logits.
  void backward_shared(Ctx& ctx, const View& h, const MlpSaved& saved, const View& dout, const View& dgate,
                       const View& dh) const;
  void backward_router(Ctx& ctx, const View& h, const MlpSaved& saved, const View& dweight, const View& dh) const;
  void weight_gradients(Ctx& ctx, Linear Expert::*which, const View& dy, const View& x, const MlpSaved& saved) const;
};

// The losses of one unit, means over its tokens and the layers with experts: balance = E sum_e f_e P_e with
// f_e the times that e was chosen and P_e its mean probability (transformers' load_balancing_loss_func over a
// batch that is the unit), z the mean square of the logits' log-sum-exp.
struct RouterLosses {
  double balance = 0, z = 0;
};
RouterLosses router_losses(const MoeConfig& config, int64_t layers, const int64_t* stats, int64_t tokens);

}  // namespace llmctl
