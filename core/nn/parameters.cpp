// SPDX-License-Identifier: Apache-2.0
#include "core/nn/parameters.h"

#include <algorithm>

#include "kernels/basic.h"

namespace llmctl {

View WeightState::param_rows(const View& whole, size_t param) const {
  int64_t begin = 0;
  for (size_t i = 0; i < param; ++i) begin += spec.params[i].rows;
  const int64_t count = spec.params[param].rows;
  if (spec.role != Role::vector) return rows_of(whole, begin, count);
  return reshaped(rows_of(reshaped(whole, {whole.size(), 1}), begin, count), {1, count});
}

Parameters::Parameters(Table table, DType compute, Purpose purpose, kn::Device device, GradKind grad, Update update,
                       Panels panels)
    : compute_(compute), purpose_(purpose), grad_(grad), panels_(panels), arena_("weights", device) {
  for (Weight& w : table) {
    WeightState s;
    s.spec = std::move(w);
    s.muon = update == Update::muon && s.spec.hidden();
    if (s.spec.padded_rows == 0) s.spec.padded_rows = s.spec.rows();
    weights_.push_back(std::move(s));
  }
  place();
}

void Parameters::quantise(int weight, int bits, int64_t group) {
  check(arena_.planning() && purpose_ == Purpose::inference, Code::bug, "[parameters] quantise after allocate");
  weights_[static_cast<size_t>(weight)].bits = bits;
  weights_[static_cast<size_t>(weight)].group = group;
  place();
}

void Parameters::place() {
  arena_.release(0);
  if (purpose_ == Purpose::training) overflows_ = arena_.take(DType::i32, {static_cast<int64_t>(weights_.size())});
  int64_t flag = 0;
  for (WeightState& w : weights_) {
    const int64_t rows = w.spec.padded_rows, cols = w.spec.cols();
    auto take = [&](DType dtype) {
      return w.spec.role == Role::vector ? arena_.take(dtype, {rows}) : arena_.take(dtype, {rows, cols});
    };
    if (purpose_ == Purpose::training) {
      w.master = take(DType::f32);
      w.m = take(DType::f32);
      if (!w.muon) w.v = take(DType::f32);
      w.one_part = grad_ == GradKind::one_part && w.spec.role == Role::linear;
      w.grad = take(grad_ == GradKind::f32 || w.one_part ? DType::f32 : DType::i64);
      if (grad_ == GradKind::one_part && w.spec.multiplies())
        w.chain = View(w.grad.data, DType::f32, {rows, cols});
      else if (grad_ == GradKind::one_part && w.spec.role == Role::vector)
        w.chain = take(DType::f32);
    }
    if (purpose_ == Purpose::training) w.overflow = View(overflows_.as<int32_t>() + flag++, DType::i32, {1});
    const bool is_master = purpose_ == Purpose::training && (compute_ == DType::f32 || w.spec.role == Role::table);
    if (w.spec.role != Role::linear) w.rows = is_master ? w.master : take(compute_);
    w.panels = {};
    if (!w.spec.multiplies() || (purpose_ == Purpose::training && panels_ == Panels::packed_on_use)) continue;
    if (w.bits)
      w.quant_panels = arena_.bytes(kn::quant_panel_bytes(w.bits, rows, cols, w.group));
    else
      w.panels = arena_.take(compute_, {kn::panel_elements(compute_, cols, rows)});
    if (purpose_ == Purpose::training)
      w.panels_t = arena_.take(compute_, {kn::panel_elements(compute_, rows, cols)});
  }
}

int64_t Parameters::packed_bytes() const {
  int64_t most = 0;
  for (const WeightState& w : weights_) {
    if (w.panels || !w.master || !w.spec.hidden()) continue;
    const int64_t rows = w.spec.padded_rows, cols = w.spec.cols();
    most = std::max({most, kn::panel_elements(compute_, cols, rows), kn::panel_elements(compute_, rows, cols)});
  }
  return most * size_of(compute_);
}

WeightState* Parameters::find(const std::string& name) {
  for (WeightState& w : weights_)
    if (w.spec.name == name) return &w;
  return nullptr;
}

WeightState& Parameters::at(const std::string& name) {
  WeightState* w = find(name);
  check(w != nullptr, Code::bug, "[parameters] no weight named ", name);
  return *w;
}

const Table Parameters::table() const {
  Table t;
  for (const WeightState& w : weights_) t.push_back(w.spec);
  return t;
}

void Parameters::set_compute(const kn::Exec& exec, WeightState& w, const View& src) {
  if (w.rows && w.rows.data != src.data) kn::run(kn::Convert{.x = src, .y = w.rows}, exec);
  if (!w.spec.multiplies()) return;
  if (w.panels || w.panels_t) kn::run(kn::PackPanels{.src = src, .panels = w.panels, .panels_t = w.panels_t}, exec);
}

void Parameters::refresh(const kn::Exec& exec) {
  for (WeightState& w : weights_) set_compute(exec, w, w.master);
}

}  // namespace llmctl
