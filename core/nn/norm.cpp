// SPDX-License-Identifier: Apache-2.0
#include "core/nn/norm.h"

#include "kernels/norm.h"

namespace llmctl {

NormSaved Norm::take_saved(Arena& arena, int64_t tokens) const {
  NormSaved s;
  s.rstd = arena.take(DType::f32, {tokens});
  if (bias) s.mean = arena.take(DType::f32, {tokens});
  return s;
}

void Norm::forward(Ctx& ctx, const View& x, const View& y, const NormSaved& saved) const {
  if (!bias)
    ctx.run(kn::RmsNormFwd{.x = x, .w = weight->rows, .y = y, .rstd = saved.rstd, .eps = eps});
  else
    ctx.run(kn::LayerNormFwd{.x = x, .w = weight->rows, .b = bias->rows, .y = y, .mean = saved.mean,
                             .rstd = saved.rstd, .eps = eps});
}

namespace {
View part_of(const View& v, const RowRange& r) { return v ? rows_of(v, r.begin, r.count) : View{}; }
}  // namespace

void Norm::backward(Ctx& ctx, const View& dy, const View& x, const NormSaved& saved, const View& dresidual,
                    const View& dx) const {
  for (const RowRange& part : ctx.stream_parts()) {
    const View rstd = elements_of(saved.rstd, part);
    if (!bias)
      ctx.run(kn::RmsNormBwd{.dy = part_of(dy, part), .x = part_of(x, part), .w = weight->rows, .rstd = rstd,
                             .dresidual = part_of(dresidual, part), .dx = part_of(dx, part),
                             .grad = weight->grad, .parts = ctx.parts_in_step, .overflow = weight->overflow,
                             .chain = weight->chain, .resume = ctx.resume, .pause = ctx.pause});
    else
      ctx.run(kn::LayerNormBwd{.dy = part_of(dy, part), .x = part_of(x, part), .w = weight->rows,
                               .mean = elements_of(saved.mean, part), .rstd = rstd,
                               .dresidual = part_of(dresidual, part), .dx = part_of(dx, part),
                               .grad_w = weight->grad, .grad_b = bias->grad, .parts = ctx.parts_in_step,
                               .overflow = weight->overflow, .chain_w = weight->chain, .chain_b = bias->chain,
                               .resume = ctx.resume, .pause = ctx.pause});
  }
}

}  // namespace llmctl
