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

// The runs are read here, by the host.
RowRange rows_of_expert(const Ctx& ctx, const MlpSaved& saved, size_t expert) {
  check(ctx.exec.device.kind == kn::DeviceKind::cpu, Code::unsupported, "[moe] experts run on the CPU only for now");
  const int32_t* starts = saved.starts.as<int32_t>() + expert;
  return {starts[0], starts[1] - starts[0]};
}

// Of an expert's rows those of tokens [begin, begin + count), which ascend.
RowRange rows_of_tokens(const MlpSaved& saved, const RowRange& expert, const RowRange& tokens) {
  const int32_t *first = saved.token.as<int32_t>() + expert.begin, *last = first + expert.count;
  const int32_t* low = std::lower_bound(first, last, tokens.begin);
  return {expert.begin + (low - first), std::lower_bound(low, last, tokens.begin + tokens.count) - low};
}

View rows_in(const View& v, const RowRange& r) { return rows_of(v, r.begin, r.count); }

// The first n statistics of a part.
View stats_of(const Ctx& ctx, size_t part, int64_t n) {
  return elements_of(ctx.router_stats, {static_cast<int64_t>(part) * ctx.router_stats.cols(), n});
}

}  // namespace

MlpSaved Moe::take_saved(Arena& arena, DType dtype, int64_t tokens) const {
  const int64_t n = static_cast<int64_t>(experts.size()), rows = tokens * per_token;
  MlpSaved s;
  s.logits = arena.take(DType::f32, {tokens, n});
  s.index = arena.take(DType::i32, {tokens, per_token});
  s.weight = arena.take(DType::f32, {tokens, per_token});
  s.starts = arena.take(DType::i32, {n + 1});
  s.token = arena.take(DType::i32, {rows});
  s.place = arena.take(DType::i32, {tokens, per_token});
  s.up = arena.take(dtype, {rows, 2 * width});
  const int64_t hidden = experts.front().down.weight->spec.rows();
  s.out = arena.take(dtype, {shared.width > 0 ? rows + tokens : rows, hidden});
  if (shared.width == 0) return s;
  s.shared_up = shared.take_saved(arena, dtype, tokens).up;
  s.gate = arena.take(DType::f32, {tokens, 1});
  s.place_all = arena.take(DType::i32, {tokens, per_token + 1});
  s.weight_all = arena.take(DType::f32, {tokens, per_token + 1});
  return s;
}

// body(expert, its rows); planning, the most rows there can be of one.
template <class Body>
void Moe::each_expert(Ctx& ctx, const MlpSaved& saved, Body&& body) const {
  if (ctx.exec.plan) return body(experts.front(), RowRange{0, saved.index.rows()});
  for (size_t e = 0; e < experts.size(); ++e)
    if (const RowRange r = rows_of_expert(ctx, saved, e); r.count > 0) body(experts[e], r);
}

// One op for all experts whose panels are in memory; else each packs its own when its turn comes.
bool Moe::multiply_together(Ctx& ctx, const Operand& o, const View& x, const View& y, const MlpSaved& saved) const {
  std::vector<View> panels;
  for (const Expert& e : experts) panels.push_back((e.*o.linear).weight->*o.panels);
  const bool kept = std::all_of(panels.begin(), panels.end(), [](const View& v) { return static_cast<bool>(v); });
  if (!kept || ctx.observe) return false;
  const Weight& spec = (experts.front().*o.linear).weight->spec;
  ctx.run(kn::GroupedGemm{.x = x, .w = panels.data(), .starts = saved.starts, .y = y, .n = y.cols(),
                          .leaves = spec.*o.leaves, .order = spec.order});
  return true;
}

void Moe::forward_rows(Ctx& ctx, Linear Expert::*which, const View& x, const View& y, const MlpSaved& saved) const {
  if (multiply_together(ctx, {which, &WeightState::panels, &Weight::forward}, x, y, saved)) return;
  each_expert(ctx, saved, [&](const Expert& e, const RowRange& r) {
    (e.*which).forward(ctx, rows_in(x, r), rows_in(y, r));
  });
}

void Moe::backward_rows(Ctx& ctx, Linear Expert::*which, const View& dy, const View& dx, const MlpSaved& saved) const {
  if (multiply_together(ctx, {which, &WeightState::panels_t, &Weight::backward}, dy, dx, saved)) return;
  each_expert(ctx, saved, [&](const Expert& e, const RowRange& r) {
    (e.*which).backward_input(ctx, rows_in(dy, r), rows_in(dx, r));
  });
}

void Moe::activate(Ctx& ctx, const MlpSaved& saved) const {
  ctx.run(kn::SwigluFwd{.x = saved.up, .y = saved.act});
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
  {
    ArenaFrame frame(ctx.arena);
    const View rows = ctx.arena.take(h.dtype, {saved.token.size(), h.cols()});
    ctx.run(kn::GatherRows{.x = h, .index = saved.token, .y = rows});
    forward_rows(ctx, &Expert::up, rows, saved.up, saved);
  }
  if (shared.width > 0) shared.up.forward(ctx, h, saved.shared_up);
  activate(ctx, saved);
  forward_rows(ctx, &Expert::down, saved.act, rows_in(saved.out, {0, saved.token.size()}), saved);
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
  const size_t step = static_cast<size_t>(ctx.parts_per_expert_part);
  const int64_t part_tokens = ctx.parts.front().count * ctx.parts_per_expert_part;
  if (ctx.exec.plan) {
    const RowRange most{0, part_tokens};
    return (experts.front().*which).backward_weight(ctx, rows_in(dy, most), rows_in(x, most), most.count);
  }
  for (size_t e = 0; e < experts.size(); ++e)
    for (size_t p = 0; p < ctx.parts.size(); p += step) {
      const Linear& linear = experts[e].*which;
      const RowRange r = rows_of_tokens(saved, rows_of_expert(ctx, saved, e), {ctx.parts[p].begin, part_tokens});
      if (r.count > 0)
        linear.backward_weight(ctx, rows_in(dy, r), rows_in(x, r), r.count);
      else if (linear.weight->one_part)  // what is stored and never added to is stored even so
        ctx.run(kn::Clear{.x = linear.weight->grad});
    }
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
      const double terms = static_cast<double>(layers * part.count);
      op.counts = stats_of(ctx, p, n);
      op.balance = static_cast<float>(balance * ctx.part_weight[p] / (terms * terms));
      op.z = static_cast<float>(2 * z * ctx.part_weight[p] / terms);
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
  const View dact = ctx.arena.take(h.dtype, {rows, width});
  const View dweight = ctx.arena.take(DType::f32, {tokens, per_token});
  const View dweights = all ? ctx.arena.take(DType::f32, {tokens, per_token + 1}) : dweight;
  const View dgate = all ? ctx.arena.take(h.dtype, {tokens, 1}) : View{};
  ctx.run(kn::CombineExpertsBwd{.dy = dy, .x = saved.out, .place = all ? saved.place_all : saved.place,
                                .weight = all ? saved.weight_all : saved.weight, .dx = douts, .dweight = dweights});
  if (all)
    ctx.run(kn::AddSharedSlotBwd{.weight_all = saved.weight_all, .dweight_all = dweights, .dweight = dweight, .dgate = dgate});
  backward_rows(ctx, &Expert::down, dout, dact, saved);
  weight_gradients(ctx, &Expert::down, dout, saved.act, saved);
  ctx.run(kn::SwigluBwd{.x = saved.up, .dy = dact, .dx = saved.up});
  // The experts' inputs, gathered again, then in the same memory their gradients.
  ctx.run(kn::GatherRows{.x = h, .index = saved.token, .y = dout});
  weight_gradients(ctx, &Expert::up, saved.up, dout, saved);
  backward_rows(ctx, &Expert::up, saved.up, dout, saved);
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
