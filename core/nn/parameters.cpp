// SPDX-License-Identifier: Apache-2.0
#include "core/nn/parameters.h"

#include <algorithm>

#include "kernels/basic.h"

namespace llmctl {

int64_t WeightState::first_row(size_t param) const {
  int64_t begin = 0;
  for (size_t i = 0; i < param; ++i) begin += spec.params[i].rows;
  return begin;
}

View WeightState::slice(const View& whole, const RowRange& r) const {
  if (spec.role != Role::vector) return rows_of(whole, r.begin, r.count);
  return reshaped(rows_of(reshaped(whole, {whole.size(), 1}), r.begin, r.count), {1, r.count});
}

View WeightState::param_rows(const View& whole, size_t param) const {
  return slice(whole, {first_row(param), spec.params[param].rows});
}

RowRange WeightState::rows_within(size_t param, const RowRange& whole) const {
  const int64_t from = rows_before(whole.begin, param), to = rows_before(whole.begin + whole.count, param);
  return {from, to - from};
}

int64_t WeightState::rows_before(int64_t row, size_t param) const {
  return std::clamp<int64_t>(row - first_row(param), 0, spec.params[param].rows);
}

View WeightState::kept(const View& own_rows, size_t param, const RowRange& r) const {
  return slice(own_rows, {r.count == 0 ? 0 : first_row(param) + r.begin - own.begin, r.count});
}

Parameters::Parameters(Table table, DType compute, Purpose purpose, kn::Device device, const TrainingMemory& training)
    : compute_(compute), purpose_(purpose), training_(training), arena_("weights", device) {
  const Sharding& s = training_.sharding;
  check(!s.shared() || training_.grad == GradKind::fixed, Code::bug, "[parameters] only fixed-point gradients add up over ranks");
  const auto borders = cut_rows(table, s.ranks, training_.update == Update::muon);
  for (size_t i = 0; i < table.size(); ++i) {
    WeightState w;
    w.spec = std::move(table[i]);
    w.muon = training_.update == Update::muon && w.spec.hidden();
    if (w.spec.padded_rows == 0) w.spec.padded_rows = w.spec.rows();
    w.borders = borders[i];
    const auto r = static_cast<size_t>(s.rank);
    w.own = s.states() ? RowRange{w.borders[r], w.borders[r + 1] - w.borders[r]} : RowRange{0, w.spec.padded_rows};
    weights_.push_back(std::move(w));
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
  const bool training = purpose_ == Purpose::training, sharded = training_.sharding.states();
  int64_t largest = 0;
  for (WeightState& w : weights_) {
    const int64_t rows = w.spec.padded_rows, cols = w.spec.cols();
    auto take = [&](DType dtype, int64_t n) {
      return w.spec.role == Role::vector ? arena_.take(dtype, {n}) : arena_.take(dtype, {n, cols});
    };
    if (training) {
      w.master = take(DType::f32, w.own.count);
      w.m = take(DType::f32, w.own.count);
      if (!w.muon) w.v = take(DType::f32, w.own.count);
      w.overflow = arena_.take(DType::i32, {1});
    }
    const bool is_master = training && !sharded && (compute_ == DType::f32 || w.spec.role == Role::table);
    if (w.spec.role != Role::linear) w.rows = is_master ? w.master : take(compute_, rows);
    if (w.spec.role == Role::linear && sharded) largest = std::max(largest, rows * cols * size_of(compute_));
    w.panels = {};
    if (!w.spec.multiplies() || (training && training_.panels == Panels::packed_on_use)) continue;
    if (w.bits)
      w.quant_panels = arena_.bytes(kn::quant_panel_bytes(w.bits, rows, cols, w.group));
    else
      w.panels = arena_.take(compute_, {kn::panel_elements(compute_, cols, rows)});
    if (training) w.panels_t = arena_.take(compute_, {kn::panel_elements(compute_, rows, cols)});
  }
  if (training) place_gradients();
  if (sharded) gathered_ = arena_.bytes(largest);
}

// One after another in the table's order, so that what a rank owns of them is one run.
void Parameters::place_gradients() {
  const GradKind kind = training_.grad;
  for (WeightState& w : weights_) {
    const int64_t rows = w.spec.padded_rows, cols = w.spec.cols();
    auto take = [&](DType dtype) {
      return w.spec.role == Role::vector ? arena_.take(dtype, {rows}) : arena_.take(dtype, {rows, cols});
    };
    w.one_part = kind == GradKind::one_part && w.spec.role == Role::linear;
    w.grad = take(kind == GradKind::f32 || w.one_part ? DType::f32 : DType::i64);
    if (kind == GradKind::one_part && w.spec.multiplies())
      w.chain = View(w.grad.data, DType::f32, {rows, cols});
    else if (kind == GradKind::one_part && w.spec.role == Role::vector)
      w.chain = take(DType::f32);
    w.sum = w.grad;
    if (training_.sharding.states())
      w.sum = w.spec.role == Role::vector ? View(w.grad.data, w.grad.dtype, {w.own.count})
                                          : rows_of(w.grad, w.own.begin, w.own.count);
  }
  if (!training_.sharding.shared()) return;
  auto* begin = weights_.front().grad.as<int64_t>();
  gradients_ = {begin, weights_.back().grad.as<int64_t>() + weights_.back().grad.size()};
  owned_.assign(static_cast<size_t>(training_.sharding.ranks) + 1, 0);
  for (const WeightState& w : weights_)
    for (size_t r = 0; r < owned_.size(); ++r)
      if (w.borders[r] > 0) owned_[r] = w.grad.as<int64_t>() - begin + w.borders[r] * w.spec.cols();
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
  for (WeightState& w : weights_)
    if (training_.sharding.states())
      gather(exec, w);
    else
      set_compute(exec, w, w.master);
}

// Rounded before it travels: what is packed from it has the bits that packing the masters has.
void Parameters::gather(const kn::Exec& exec, WeightState& w) {
  const int64_t cols = w.spec.cols(), row = cols * size_of(compute_);
  const View whole = w.rows ? w.rows : View(gathered_.data, compute_, {w.spec.padded_rows, cols});
  const View mine(static_cast<std::byte*>(whole.data) + w.own.begin * row, compute_, {w.master.size()});
  if (w.own.count > 0) kn::run(kn::Convert{.x = reshaped(w.master, {w.master.size()}), .y = mine}, exec);
  if (exec.plan) return;
  std::vector<int64_t> offsets;
  for (const int64_t border : w.borders) offsets.push_back(border * row);
  training_.sharding.comm->all_gather({static_cast<std::byte*>(mine.data), static_cast<size_t>(w.own.count * row)},
                                      {static_cast<std::byte*>(whole.data), static_cast<size_t>(w.spec.padded_rows * row)},
                                      offsets, w.spec.name);
  set_compute(exec, w, whole);
}

void Parameters::reduce_gradients(const kn::Exec& exec, int64_t step) {
  const Sharding& s = training_.sharding;
  if (!s.shared() || exec.plan) return;
  if (s.states())
    s.comm->reduce_scatter(gradients_, owned_, CommLabel("gradients", step));
  else
    s.comm->all_reduce(gradients_, CommOp::sum, CommLabel("gradients", step));
}

}  // namespace llmctl
