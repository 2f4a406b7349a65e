// SPDX-License-Identifier: Apache-2.0
#include "core/nn/linear.h"

#include "kernels/tree_sum.h"

namespace llmctl {

namespace {
View room_for_panels(Ctx& ctx, DType dtype, int64_t elements) {
  const bool fits = elements * size_of(dtype) <= ctx.panels.size() && ctx.panels;
  return fits ? View(ctx.panels.data, dtype, {elements}) : ctx.arena.take(dtype, {elements});
}
}  // namespace

void gather_weights(Ctx& ctx, const WeightState& w) {
  if (ctx.store) ctx.store->gather(w.bundle, ctx.exec);
}

void reduce_gradients(Ctx& ctx, const WeightState& w) {
  if (ctx.store) ctx.store->reduce(w.bundle, ctx.exec);
}

View forward_panels(Ctx& ctx, const WeightState& w, DType dtype) {
  if (w.panels) return w.panels;
  const View p = room_for_panels(ctx, dtype, kn::panel_elements(dtype, w.slice.cols, w.slice.row_count()));
  ctx.run(kn::PackPanels{.src = w.whole, .panels = p, .panels_t = {}});
  return p;
}

View backward_panels(Ctx& ctx, const WeightState& w, DType dtype) {
  if (w.panels_t) return w.panels_t;
  const View p = room_for_panels(ctx, dtype, kn::panel_elements(dtype, w.slice.row_count(), w.slice.cols));
  ctx.run(kn::PackPanels{.src = w.whole, .panels = {}, .panels_t = p});
  return p;
}

View all_rows(Ctx& ctx, const View& x, const char* what) {
  if (ctx.share.count == 0) return x;
  const RankGroup& group = ctx.tensor;
  const View all = ctx.lasting().take(x.dtype, {x.rows() * group.size, x.cols()});
  if (!ctx.exec.plan)
    group.comm->all_gather(memory_of(x), memory_of(all), even_offsets(all.bytes(), group.size), what);
  return all;
}

View share_of(const Ctx& ctx, const View& x) {
  return ctx.share.count == 0 ? x : rows_of(x, ctx.share.begin, ctx.share.count);
}

// Where the contraction is cut, a rank has the root of its subtree of leaves; the roots of all meet in
// fp32 before anything is added or rounded (NUMERICS rules 3 and 4): those of its share of rows at each
// rank, from where the finished rows go to all that want them.
void meet_roots(Ctx& ctx, const WeightState& w, int64_t m, const std::function<void(const View& root)>& make, const View& added,
                const View& residual, const View& y) {
  ArenaFrame frame(ctx.arena);
  const RankGroup& group = ctx.tensor;
  const bool shared = y.rows() < m;
  const int64_t n = y.cols(), most = (m + group.size - 1) / group.size;
  const std::vector<int64_t> rows = even_offsets(m, group.size);
  const RowRange own{rows[static_cast<size_t>(group.rank)], rows[static_cast<size_t>(group.rank) + 1] - rows[static_cast<size_t>(group.rank)]};
  const View root = ctx.arena.take(DType::f32, {m, n});
  const View all = ctx.arena.take(DType::f32, {group.size, most, n});
  const View roots(all.data, DType::f32, {group.size, own.count, n});
  make(root);
  if (!ctx.exec.plan) {
    group.comm->all_to_all(memory_of(root), in_bytes(rows, n * 4), memory_of(roots), even_offsets(roots.bytes(), group.size),
                           w.spec.name);
  }
  const auto here = [&](const View& v) { return shared || !v ? v : rows_of(v, own.begin, own.count); };
  if (own.count > 0) ctx.run(kn::TreeSum{.roots = roots, .bias = added, .residual = here(residual), .y = here(y)});
  if (!ctx.exec.plan && !shared)
    group.comm->all_gather(memory_of(here(y)), memory_of(y), in_bytes(rows, n * size_of(y.dtype)), w.spec.name);
}

void Linear::multiply(Ctx& ctx, const View& x, const View& panels, const kn::Leaves& leaves, bool cut, const View& added,
                      const View& y, const View& residual) const {
  kn::Gemm product{.x = x, .w = panels, .y = y, .n = y.cols(), .leaves = leaves, .bias = {}, .residual = {},
                   .order = weight->spec.order};
  if (!cut) {
    product.bias = added;
    product.residual = residual;
    return ctx.run(product);
  }
  const auto make = [&](const View& root) {
    product.y = root;
    ctx.run(product);
  };
  meet_roots(ctx, *weight, x.rows(), make, added, residual, y);
}

void Linear::forward(Ctx& ctx, const View& panels, const View& x, const View& y, const View& residual) const {
  if (ctx.observe) (*ctx.observe)(*weight, x);
  multiply(ctx, x, panels, weight->slice.forward, weight->slice.cut_cols, bias ? bias->rows : View{}, y, residual);
}

void Linear::forward(Ctx& ctx, const View& x, const View& y, const View& residual) const {
  ArenaFrame frame(ctx.arena);
  if (weight->bits == 0) return forward(ctx, forward_panels(ctx, *weight, x.dtype), x, y, residual);
  if (ctx.observe) (*ctx.observe)(*weight, x);
  const View b = bias ? bias->rows : View{};
  const int64_t m = x.rows(), k = x.cols(), group = weight->group;
  View q = ctx.arena.take(DType::i8, {m, k});
  View scale = ctx.arena.take(DType::f32, {m, (k + group - 1) / group});
  ctx.run(kn::QuantizeRows{.x = x, .q = q, .scale = scale, .group = group});
  ctx.run(kn::QuantGemm{.q = q, .scale = scale, .w = weight->quant_panels, .y = y, .bits = weight->bits,
                        .n = y.cols(), .group = group, .bias = b, .residual = residual});
}

void Linear::backward_input(Ctx& ctx, const View& dy, const View& dx, const View& residual) const {
  ArenaFrame frame(ctx.arena);
  const View panels = backward_panels(ctx, *weight, dy.dtype);
  multiply(ctx, dy, panels, weight->slice.backward, weight->slice.cut_rows, {}, dx, residual);
}

void Linear::backward_weight(Ctx& ctx, const View& dy, const View& x) const {
  if (ctx.later) return ctx.later->push_back([self = *this, dy, x](Ctx& then) { self.backward_weight(then, dy, x); });
  for (const RowRange& part : ctx.parts)
    backward_weight(ctx, rows_of(dy, part.begin, part.count), rows_of(x, part.begin, part.count), ctx.seq);
}

void Linear::backward_weight(Ctx& ctx, const View& dy, const View& x, int64_t seq) const {
  ArenaFrame frame(ctx.arena);
  const kn::Bf16Order order = weight->spec.order;
  View work = ctx.arena.bytes(kn::gemm_dw_workspace(dy.dtype, dy.rows(), seq, dy.cols(), x.cols(), order));
  kn::GemmDw dw{.dy = dy, .x = x, .seq = seq, .chain = weight->chain};
  dw.resume = ctx.resume;
  dw.pause = ctx.pause;
  dw.grad = weight->grad;
  dw.only = weight->one_part;
  dw.parts = ctx.parts_in_step;
  dw.overflow = weight->overflow;
  dw.work = work;
  dw.order = order;
  ctx.run(dw);
  if (bias)
    ctx.run(kn::BiasGrad{.dy = dy, .grad = bias->grad, .overflow = bias->overflow, .parts = ctx.parts_in_step,
                         .chain = bias->chain, .resume = ctx.resume, .pause = ctx.pause});
}

}  // namespace llmctl
