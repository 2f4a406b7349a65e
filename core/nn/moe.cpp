// SPDX-License-Identifier: Apache-2.0
#include "core/nn/moe.h"

#include <algorithm>

#include "kernels/basic.h"
#include "kernels/experts.h"
#include "kernels/gemm_grouped.h"
#include "kernels/router.h"

namespace llmctl {

bool MoeConfig::in_layer(int64_t layer) const {
  return experts > 0 && (layer + 1) % step == 0 &&
         std::find(dense_layers.begin(), dense_layers.end(), layer) == dense_layers.end();
}

int64_t MoeConfig::layers_of(int64_t layers) const {
  int64_t n = 0;
  for (int64_t l = 0; l < layers; ++l) n += in_layer(l);
  return n;
}

namespace {

View rows_in(const View& v, const RowRange& r) { return rows_of(v, r.begin, r.count); }

// The first n statistics of a part's unit.
View stats_of(const Ctx& ctx, size_t part, int64_t n) {
  return elements_of(ctx.router_stats, {static_cast<int64_t>(part) / ctx.parts_per_unit * ctx.router_stats.cols(), n});
}

}  // namespace

MlpSaved Moe::take_saved(Arena& arena, DType dtype, int64_t tokens, int64_t parts) const {
  const int64_t n = static_cast<int64_t>(experts.size()), rows = tokens * per_token;
  MlpSaved s;
  s.logits = arena.take(DType::f32, {tokens, n});
  s.index = arena.take(DType::i32, {tokens, per_token});
  s.weight = arena.take(DType::f32, {tokens, per_token});
  s.starts = arena.take(DType::i32, {n + 1});
  s.token = arena.take(DType::i32, {rows});
  s.place = arena.take(DType::i32, {tokens, per_token});
  share.take_saved(arena, parts, s);
  s.up = arena.take(dtype, {share.room(tokens), 2 * width});
  const int64_t hidden = experts.front().down.weight->spec.rows();
  s.out = arena.take(dtype, {shared.width > 0 ? rows + tokens : rows, hidden});
  if (shared.width == 0) return s;
  s.shared_up = shared.take_saved(arena, dtype, tokens).up;
  s.gate = arena.take(DType::f32, {tokens, 1});
  s.place_all = arena.take(DType::i32, {tokens, per_token + 1});
  s.weight_all = arena.take(DType::f32, {tokens, per_token + 1});
  return s;
}

// One op for all experts whose panels are in memory; else each packs its own when its turn comes.
bool Moe::multiply_together(Ctx& ctx, const Operand& o, const View& x, const View& y, const MlpSaved& saved) const {
  std::vector<View> panels;
  const RowRange held = share.held();
  for (int64_t g = 0; g < share.ranks * held.count; ++g)
    panels.push_back((experts[static_cast<size_t>(held.begin + g % held.count)].*o.linear).weight->*o.panels);
  const bool kept = std::all_of(panels.begin(), panels.end(), [](const View& v) { return static_cast<bool>(v); });
  if (!kept || ctx.observe) return false;
  const WeightState& weight = *(experts[static_cast<size_t>(held.begin)].*o.linear).weight;
  const auto product = [&](const View& to) {
    ctx.run(kn::GroupedGemm{.x = x, .w = panels.data(), .starts = saved.runs, .y = to, .n = to.cols(),
                            .leaves = weight.slice.*o.leaves, .order = weight.spec.order});
  };
  weight.slice.*o.cut ? meet_roots(ctx, weight, y.rows(), product, {}, {}, y) : product(y);
  return true;
}

void Moe::forward_rows(Ctx& ctx, Linear Expert::*which, const View& x, const View& y, const MlpSaved& saved) const {
  if (multiply_together(ctx, {which, &WeightState::panels, &Slice::forward, &Slice::cut_cols}, x, y, saved)) return;
  share.each_run(ctx, saved, [&](int64_t e, const RowRange& r) {
    (experts[static_cast<size_t>(e)].*which).forward(ctx, rows_in(x, r), rows_in(y, r));
  });
}

void Moe::backward_rows(Ctx& ctx, Linear Expert::*which, const View& dy, const View& dx, const MlpSaved& saved) const {
  if (multiply_together(ctx, {which, &WeightState::panels_t, &Slice::backward, &Slice::cut_rows}, dy, dx, saved)) return;
  share.each_run(ctx, saved, [&](int64_t e, const RowRange& r) {
    (experts[static_cast<size_t>(e)].*which).backward_input(ctx, rows_in(dy, r), rows_in(dx, r));
  });
}

void Moe::activate(Ctx& ctx, const MlpSaved& saved) const {
  ctx.run(kn::SwigluFwd{.x = share.filled(ctx, saved.up, saved), .y = share.filled(ctx, saved.act, saved)});
  if (shared.width > 0) ctx.run(kn::SwigluFwd{.x = saved.shared_up, .y = saved.shared_act});
}

void Moe::route(Ctx& ctx, const View& h, const MlpSaved& saved) const {
  router.forward(ctx, h, saved.logits);
  ctx.run(kn::RouterFwd{.logits = saved.logits, .index = saved.index, .weight = saved.weight,
                        .renormalise = renormalise});
  ctx.run(kn::SortByExpert{.index = saved.index, .starts = saved.starts, .token = saved.token, .place = saved.place});
}

// All but its activation.
void Moe::forward_shared(Ctx& ctx, const View& h, const MlpSaved& saved) const {
  const RowRange own{saved.token.size(), h.rows()};
  shared.down.forward(ctx, saved.shared_act, rows_in(saved.out, own));
  shared_gate.forward(ctx, h, saved.gate);
  ctx.run(kn::AddSharedSlot{.place = saved.place, .weight = saved.weight, .gate = saved.gate,
                            .place_all = saved.place_all, .weight_all = saved.weight_all});
}

void Moe::forward(Ctx& ctx, const View& h, const View& residual, const View& y, const MlpSaved& saved) const {
  route(ctx, h, saved);
  share.agree(ctx, saved);
  {
    ArenaFrame frame(ctx.arena);
    const View rows = ctx.arena.take(h.dtype, {saved.token.size(), h.cols()});
    ctx.run(kn::GatherRows{.x = h, .index = saved.token, .y = rows});
    const View held = share.place(ctx, rows, saved);
    share.to_holders(ctx, rows, held, saved);
    forward_rows(ctx, &Expert::up, held, share.filled(ctx, saved.up, saved), saved);
  }
  if (shared.width > 0) shared.up.forward(ctx, h, saved.shared_up);
  activate(ctx, saved);
  {
    ArenaFrame frame(ctx.arena);
    const View out = rows_in(saved.out, {0, saved.token.size()}), held = share.place(ctx, out, saved);
    forward_rows(ctx, &Expert::down, share.filled(ctx, saved.act, saved), held, saved);
    share.to_tokens(ctx, held, out, saved);
  }
  if (shared.width > 0) forward_shared(ctx, h, saved);
  const bool all = shared.width > 0;
  ctx.run(kn::CombineExperts{.x = saved.out, .place = all ? saved.place_all : saved.place,
                             .weight = all ? saved.weight_all : saved.weight, .residual = residual, .y = y});
}

void Moe::count(Ctx& ctx, const MlpSaved& saved) const {
  if (!ctx.router_stats) return;
  for (size_t p = 0; p < ctx.parts.size(); ++p)
    ctx.run(kn::RouterStats{.logits = rows_in(saved.logits, ctx.parts[p]), .index = rows_in(saved.index, ctx.parts[p]),
                            .stats = stats_of(ctx, p, ctx.router_stats.cols())});
}

void Moe::weight_gradients(Ctx& ctx, Linear Expert::*which, const View& dy, const View& x, const MlpSaved& saved) const {
  share.each_part(ctx, saved, [&](int64_t e, const RowRange& r) {
    const Linear& linear = experts[static_cast<size_t>(e)].*which;
    if (r.count > 0)
      linear.backward_weight(ctx, rows_in(dy, r), rows_in(x, r), r.count);
    else if (linear.weight->one_part)  // what is stored and never added to is stored even so
      ctx.run(kn::Clear{.x = linear.weight->grad});
  });
}

void Moe::backward_router(Ctx& ctx, const View& h, const MlpSaved& saved, const View& dweight, const View& dh) const {
  ArenaFrame frame(ctx.arena);
  const int64_t n = static_cast<int64_t>(experts.size());
  const View dlogits = ctx.arena.take(h.dtype, {h.rows(), n});
  for (size_t p = 0; p < ctx.parts.size(); ++p) {
    const RowRange& part = ctx.parts[p];
    kn::RouterBwd op{.logits = rows_in(saved.logits, part), .index = rows_in(saved.index, part),
                     .weight = rows_in(saved.weight, part), .dweight = rows_in(dweight, part), .counts = {},
                     .renormalise = renormalise, .dlogits = rows_in(dlogits, part)};
    if (ctx.router_stats) {
      const double terms = static_cast<double>(layers * part.count * ctx.parts_per_unit * ctx.context.size);
      const double weight = ctx.unit_weight[p / static_cast<size_t>(ctx.parts_per_unit)];
      op.counts = stats_of(ctx, p, n);
      op.balance = static_cast<float>(balance * weight / (terms * terms));
      op.z = static_cast<float>(2 * z * weight / terms);
    }
    ctx.run(op);
  }
  router.backward_input(ctx, dlogits, dh);
  router.backward_weight(ctx, dlogits, h);
}

void Moe::backward_shared(Ctx& ctx, const View& h, const MlpSaved& saved, const View& dout, const View& dgate,
                          const View& dh) const {
  ArenaFrame frame(ctx.arena);
  const View dact = ctx.arena.take(h.dtype, {h.rows(), shared.width});
  shared.down.backward_input(ctx, dout, dact);
  shared.down.backward_weight(ctx, dout, saved.shared_act);
  ctx.run(kn::SwigluBwd{.x = saved.shared_up, .dy = dact, .dx = saved.shared_up});
  shared.up.backward_input(ctx, saved.shared_up, dh, dh);
  shared.up.backward_weight(ctx, saved.shared_up, h);
  shared_gate.backward_input(ctx, dgate, dh, dh);
  shared_gate.backward_weight(ctx, dgate, h);
}

void Moe::backward(Ctx& ctx, const View& h, const View& dy, const MlpSaved& saved, const View& dh) const {
  ArenaFrame frame(ctx.arena);
  const int64_t rows = saved.token.size(), tokens = h.rows();
  const bool all = shared.width > 0;
  const View douts = ctx.arena.take(h.dtype, {saved.out.rows(), h.cols()}), dout = rows_in(douts, {0, rows});
  const View held = share.place(ctx, dout, saved), up = share.filled(ctx, saved.up, saved), act = share.filled(ctx, saved.act, saved);
  const View dact = share.filled(ctx, ctx.arena.take(h.dtype, {saved.up.rows(), width}), saved);
  const View dweight = ctx.arena.take(DType::f32, {tokens, per_token});
  const View dweights = all ? ctx.arena.take(DType::f32, {tokens, per_token + 1}) : dweight;
  const View dgate = all ? ctx.arena.take(h.dtype, {tokens, 1}) : View{};
  ctx.run(kn::CombineExpertsBwd{.dy = dy, .x = saved.out, .place = all ? saved.place_all : saved.place,
                                .weight = all ? saved.weight_all : saved.weight, .dx = douts, .dweight = dweights});
  if (all)
    ctx.run(kn::AddSharedSlotBwd{.weight_all = saved.weight_all, .dweight_all = dweights, .dweight = dweight, .dgate = dgate});
  share.to_holders(ctx, dout, held, saved);
  backward_rows(ctx, &Expert::down, held, dact, saved);
  weight_gradients(ctx, &Expert::down, held, act, saved);
  ctx.run(kn::SwigluBwd{.x = up, .dy = dact, .dx = up});
  // The experts' inputs, gathered again, then in the same memory their gradients.
  ctx.run(kn::GatherRows{.x = h, .index = saved.token, .y = dout});
  share.to_holders(ctx, dout, held, saved);
  weight_gradients(ctx, &Expert::up, up, held, saved);
  backward_rows(ctx, &Expert::up, up, held, saved);
  share.to_tokens(ctx, held, dout, saved);
  backward_router(ctx, h, saved, dweight, dh);
  if (all) backward_shared(ctx, h, saved, rows_in(douts, {rows, tokens}), dgate, dh);
  ctx.run(kn::CombineExperts{.x = dout, .place = saved.place, .weight = {}, .residual = dh, .y = dh});
}

RouterLosses router_losses(const MoeConfig& config, int64_t layers, const int64_t* stats, int64_t tokens) {
  const double terms = static_cast<double>(config.layers_of(layers) * tokens);
  RouterLosses losses;
  for (int64_t e = 0; e < config.experts; ++e)
    losses.balance += static_cast<double>(stats[e]) / terms *
                      (static_cast<double>(stats[config.experts + e]) * 0x1p-40 / terms);
  losses.balance *= static_cast<double>(config.experts);
  losses.z = static_cast<double>(stats[2 * config.experts]) * 0x1p-20 / terms;
  return losses;
}

}  // namespace llmctl
