// SPDX-License-Identifier: Apache-2.0
#include "core/nn/linear.h"

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
  const View p = room_for_panels(ctx, dtype, kn::panel_elements(dtype, w.spec.cols(), w.spec.padded_rows));
  ctx.run(kn::PackPanels{.src = w.whole, .panels = p, .panels_t = {}});
  return p;
}

View backward_panels(Ctx& ctx, const WeightState& w, DType dtype) {
  if (w.panels_t) return w.panels_t;
  const View p = room_for_panels(ctx, dtype, kn::panel_elements(dtype, w.spec.padded_rows, w.spec.cols()));
  ctx.run(kn::PackPanels{.src = w.whole, .panels = {}, .panels_t = p});
  return p;
}

void Linear::forward(Ctx& ctx, const View& panels, const View& x, const View& y, const View& residual) const {
  if (ctx.observe) (*ctx.observe)(*weight, x);
  ctx.run(kn::Gemm{.x = x, .w = panels, .y = y, .n = y.cols(), .leaves = weight->spec.forward,
                   .bias = bias ? bias->rows : View{}, .residual = residual, .order = weight->spec.order});
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
  ctx.run(kn::Gemm{.x = dy, .w = panels, .y = dx, .n = dx.cols(), .leaves = weight->spec.backward,
                   .bias = {}, .residual = residual, .order = weight->spec.order});
}

void Linear::backward_weight(Ctx& ctx, const View& dy, const View& x) const {
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
