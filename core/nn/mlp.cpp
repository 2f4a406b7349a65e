// SPDX-License-Identifier: Apache-2.0
#include "core/nn/mlp.h"

namespace llmctl {
namespace {
kn::GeluKind gelu_of(MlpKind kind) {
  return kind == MlpKind::gelu_tanh ? kn::GeluKind::tanh : kn::GeluKind::erf;
}
}  // namespace

MlpSaved Mlp::take_saved(Arena& arena, DType dtype, int64_t tokens, int64_t) const {
  return {arena.take(dtype, {tokens, kind == MlpKind::swiglu ? 2 * width : width}), {}};
}

void Mlp::activate(Ctx& ctx, const MlpSaved& saved) const {
  if (kind == MlpKind::swiglu)
    ctx.run(kn::SwigluFwd{.x = saved.up, .y = saved.act});
  else
    ctx.run(kn::GeluFwd{.x = saved.up, .y = saved.act, .kind = gelu_of(kind)});
}

void Mlp::forward(Ctx& ctx, const View& h_here, const View& residual, const View& y, const MlpSaved& saved) const {
  ArenaFrame frame(ctx.arena);
  const View h = all_rows(ctx, h_here, "mlp");
  up.forward(ctx, h, saved.up);
  activate(ctx, saved);
  down.forward(ctx, saved.act, y, residual);
}

void Mlp::backward(Ctx& ctx, const View& h_here, const View& dy_here, const MlpSaved& saved, const View& dh) const {
  ArenaFrame frame(ctx.arena);
  const View h = all_rows(ctx, h_here, "mlp"), dy = all_rows(ctx, dy_here, "mlp");
  const View dact = ctx.lasting().take(h.dtype, {saved.act.dim[0], width});
  down.backward_input(ctx, dy, dact);
  down.backward_weight(ctx, dy, saved.act);
  if (kind == MlpKind::swiglu) {
    ctx.run(kn::SwigluBwd{.x = saved.up, .dy = dact, .dx = saved.up});
    up.backward_input(ctx, saved.up, dh);
    up.backward_weight(ctx, saved.up, h);
  } else {
    ctx.run(kn::GeluBwd{.x = saved.up, .dy = dact, .dx = dact, .kind = gelu_of(kind)});
    up.backward_input(ctx, dact, dh);
    up.backward_weight(ctx, dact, h);
  }
}

}  // namespace llmctl
