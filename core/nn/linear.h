// SPDX-License-Identifier: Apache-2.0
// y = x W^T + b, with W (out, in) as checkpoints store it. Quantised weights are another storage of
// the same weight: forward picks the kernel by what the WeightState holds.
#pragma once

#include "core/nn/context.h"
#include "core/nn/parameters.h"

namespace llmctl {

// Before a pass uses the weights of w's bundle, and after its gradients are complete: where they are spread
// over ranks (core/nn/bundle_store.h) calls of all, else nothing.
void gather_weights(Ctx& ctx, const WeightState& w);
void reduce_gradients(Ctx& ctx, const WeightState& w);

// All rows (T, cols) of what is shared out by rows, in ctx.lasting(): calls of all tensor-parallel ranks. And
// the rows here of what has all.
View all_rows(Ctx& ctx, const View& x, const char* what);
View share_of(const Ctx& ctx, const View& x);

// Panels of w for y = x w^T (panel_elements of contraction cols) and for dx = dy w: those it keeps, or
// else packed from the master into ctx.panels or ctx.arena, in the dtype of the product.
View forward_panels(Ctx& ctx, const WeightState& w, DType dtype);
View backward_panels(Ctx& ctx, const WeightState& w, DType dtype);

// y = round(tree of all ranks' roots + added + residual) of a product with w whose contraction is cut over
// ctx.tensor: make(root) computes this rank's subtree, (rows, n) f32. Collective. y and residual (or none) have
// as many rows, or the share of them that is here (Ctx::share); added (n) may be none.
void meet_roots(Ctx& ctx, const WeightState& w, int64_t rows, const std::function<void(const View& root)>& make, const View& added,
                const View& residual, const View& y);

// Ranks that hold slices of a weight (tensor parallel) see the same rows: of one that is cut by rows each
// makes its columns of y, of one that is cut by columns each takes its columns of x and all make the
// same y; backward likewise.
// Where the residual stream is shared out over these ranks by rows (Ctx::share), y and dx that are as short as
// its share get the rows of this rank alone; what products take has all rows.
struct Linear {
  WeightState* weight = nullptr;
  WeightState* bias = nullptr;  // or none

  // x (T, in), y (T, out), residual (T, out) or none is added before the one rounding.
  void forward(Ctx& ctx, const View& x, const View& y, const View& residual = {}) const;
  // The same with panels in hand, of a weight that is not quantised.
  void forward(Ctx& ctx, const View& panels, const View& x, const View& y, const View& residual) const;
  // dx (T, in) = dy W, plus residual (T, in) or none before the one rounding; dx may be residual.
  void backward_input(Ctx& ctx, const View& dy, const View& dx, const View& residual = {}) const;
  // Gradients of weight and bias, a part each of ctx.parts; put off where ctx.later is set.
  void backward_weight(Ctx& ctx, const View& dy, const View& x) const;
  // The gradients of one part, whose sequences have `seq` rows.
  void backward_weight(Ctx& ctx, const View& dy, const View& x, int64_t seq) const;

 private:
  void multiply(Ctx& ctx, const View& x, const View& panels, const kn::Leaves& leaves, bool cut, const View& added,
                const View& y, const View& residual) const;
};

}  // namespace llmctl
