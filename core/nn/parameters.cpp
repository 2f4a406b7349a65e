// SPDX-License-Identifier: Apache-2.0
#include "core/nn/parameters.h"

#include <algorithm>
#include <cstdio>

#include "kernels/basic.h"

namespace llmctl {

namespace {

constexpr int kHeadBundle = -1;  // the last, once their number is known

// Embeddings, blocks, and what comes after them.
int bundle_of(const std::string& name) {
  if (name == "embed" || name == "positions") return 0;
  int block = 0;
  return std::sscanf(name.c_str(), "blocks.%d.", &block) == 1 ? block + 1 : kHeadBundle;
}

}  // namespace

int64_t WeightState::first_row(size_t param) const {
  int64_t begin = 0;
  for (size_t i = 0; i < param; ++i) begin += spec.params[i].rows;
  return begin;
}

View WeightState::rows_in(const View& from, const RowRange& r) const {
  if (spec.role != Role::vector) return rows_of(from, r.begin, r.count);
  return reshaped(rows_of(reshaped(from, {from.size(), 1}), r.begin, r.count), {1, r.count});
}

View WeightState::shape_of(size_t param) const {
  const Param& p = spec.params[param];
  return spec.role == Role::vector ? View(nullptr, DType::f32, {1, p.rows}) : View(nullptr, DType::f32, {p.rows, p.cols});
}

View WeightState::param_rows(const View& all_rows, size_t param) const {
  return rows_in(all_rows, {first_row(param), spec.params[param].rows});
}

RowRange WeightState::rows_within(size_t param, const RowRange& range) const {
  const int64_t from = rows_before(range.begin, param), to = rows_before(range.begin + range.count, param);
  return {from, to - from};
}

int64_t WeightState::rows_before(int64_t row, size_t param) const {
  return std::clamp<int64_t>(row - first_row(param), 0, spec.params[param].rows);
}

View WeightState::kept(const View& own_rows, size_t param, const RowRange& r) const {
  return rows_in(own_rows, {r.count == 0 ? 0 : first_row(param) + r.begin - own.begin, r.count});
}

Parameters::Parameters(Table table, DType compute, Purpose purpose, kn::Device device, const TrainingMemory& training)
    : compute_(compute), purpose_(purpose), training_(training), arena_("weights", device) {
  const Sharding& s = training_.sharding;
  check(!s.shared() || training_.grad == GradKind::fixed, Code::bug, "[parameters] only fixed-point gradients add up over ranks");
  const Slicing slicing(table, s);
  stages_ = slicing.stages();
  const auto borders = cut_rows(table, s, training_.update == Update::muon);
  const Table whole = s.cut() ? table : Table();
  for (size_t i = 0; i < table.size(); ++i) {
    WeightState w;
    w.spec = std::move(table[i]);
    w.muon = training_.update == Update::muon && w.spec.hidden();
    if (w.spec.padded_rows == 0) w.spec.padded_rows = w.spec.rows();
    w.slice = slicing.slice(w.spec, s.rank);
    w.borders = borders[i];
    w.bundle = bundle_of(w.spec.name);
    const auto r = static_cast<size_t>(s.rank);
    w.own = s.states() ? RowRange{w.borders[r], w.borders[r + 1] - w.borders[r]} : RowRange{0, w.spec.padded_rows};
    weights_.push_back(std::move(w));
  }
  int blocks = 0;
  for (const WeightState& w : weights_)
    if (w.bundle != kHeadBundle) blocks = std::max(blocks, w.bundle);
  for (WeightState& w : weights_)
    if (w.bundle == kHeadBundle) w.bundle = blocks + 1;
  if (s.gradients()) store_ = std::make_unique<BundleStore>(s);
  if (s.cut()) exchange_ = std::make_unique<SliceExchange>(whole, s, compute_, weights_);
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
  if (training) overflows_ = arena_.take(DType::i32, {static_cast<int64_t>(weights_.size())});
  int64_t largest = 0, flag = 0;
  for (WeightState& w : weights_) {
    const int64_t rows = w.slice.row_count(), cols = w.slice.cols;
    auto take = [&](DType dtype, int64_t n) {
      return w.spec.role == Role::vector ? arena_.take(dtype, {n}) : arena_.take(dtype, {n, cols});
    };
    if (training) {
      auto own = [&] { return w.spec.role == Role::vector ? arena_.take(DType::f32, {w.own.count}) : arena_.take(DType::f32, {w.own.count, w.spec.cols()}); };
      w.master = own();
      w.m = own();
      if (!w.muon) w.v = own();
      w.overflow = View(overflows_.as<int32_t>() + flag++, DType::i32, {1});
    }
    w.whole = w.master;
    const bool is_master = training && !sharded && (compute_ == DType::f32 || w.spec.role == Role::table);
    const bool comes = training_.sharding.weights() && w.spec.role != Role::vector;  // place_whole_rows
    if (comes) w.mine = take(compute_, w.own.count);
    if (w.spec.role != Role::linear && !comes) w.rows = is_master ? w.master : take(compute_, rows);
    if (w.spec.role == Role::linear && sharded && !comes && !exchange_) largest = std::max(largest, rows * cols * size_of(compute_));
    w.panels = {};
    if (rows == 0) continue;
    if (!w.spec.multiplies() || (training && training_.panels == Panels::packed_on_use)) continue;
    if (w.bits)
      w.quant_panels = arena_.bytes(kn::quant_panel_bytes(w.bits, rows, cols, w.group));
    else
      w.panels = arena_.take(compute_, {kn::panel_elements(compute_, cols, rows)});
    if (training) w.panels_t = arena_.take(compute_, {kn::panel_elements(compute_, rows, cols)});
  }
  if (training && exchange_)
    place_slice_gradients();
  else if (training)
    training_.sharding.gradients() ? place_bundles() : place_gradients();
  if (exchange_)
    passing_ = arena_.bytes(exchange_->bytes());
  else if (sharded)
    gathered_ = arena_.bytes(largest);
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

// What backward adds to is a slice; sums are of the rows that are kept.
void Parameters::place_slice_gradients() {
  for (WeightState& w : weights_) {
    auto take = [&](int64_t rows, int64_t cols) {
      return w.spec.role == Role::vector ? arena_.take(DType::i64, {rows}) : arena_.take(DType::i64, {rows, cols});
    };
    w.grad = take(w.slice.row_count(), w.slice.cols);
    w.sum = take(w.own.count, w.spec.cols());
  }
}

// Gradients lie in one bucket, a bundle at a time, and what this rank owns of their sums beside it.
void Parameters::place_bundles() {
  std::vector<Bundle> bundles;
  for (const WeightState& w : weights_) bundles.resize(std::max(bundles.size(), static_cast<size_t>(w.bundle) + 1));
  std::vector<int64_t> sizes(bundles.size());
  for (const WeightState& w : weights_) sizes[static_cast<size_t>(w.bundle)] += w.spec.padded_rows * w.spec.cols();
  bucket_ = arena_.take(DType::i64, {*std::max_element(sizes.begin(), sizes.end())});
  std::fill(sizes.begin(), sizes.end(), 0);
  for (WeightState& w : weights_) {
    Bundle& b = bundles[static_cast<size_t>(w.bundle)];
    int64_t& at = sizes[static_cast<size_t>(w.bundle)];
    const int64_t rows = w.spec.padded_rows, cols = w.spec.cols();
    const bool vector = w.spec.role == Role::vector;
    int64_t* grad = bucket_.as<int64_t>() + at;
    w.grad = vector ? View(grad, DType::i64, {rows}) : View(grad, DType::i64, {rows, cols});
    w.sum = vector ? arena_.take(DType::i64, {w.own.count}) : arena_.take(DType::i64, {w.own.count, cols});
    b.offsets.resize(w.borders.size());
    for (size_t r = 0; r < w.borders.size(); ++r)
      if (w.borders[r] > 0) b.offsets[r] = at + w.borders[r] * cols;
    if (w.own.count > 0)
      b.sums.push_back({View(grad + w.own.begin * cols, DType::i64, {w.own.count * cols}), reshaped(w.sum, {w.sum.size()})});
    at += rows * cols;
    b.gradients = {bucket_.as<int64_t>(), static_cast<size_t>(at)};
  }
  if (training_.sharding.weights()) place_whole_rows(bundles);
  store_->set(std::move(bundles));
}

// Neighbours have memory of their own, so that one can come while the other is used.
void Parameters::place_whole_rows(std::vector<Bundle>& bundles) {
  for (int slot : {0, 1}) {
    const int64_t start = arena_.mark();
    int64_t end = start;
    for (size_t i = static_cast<size_t>(slot); i < bundles.size(); i += 2) {
      arena_.release(start);
      bundles[i].slot = slot;
      for (WeightState& w : weights_) {
        if (w.bundle != static_cast<int>(i) || w.spec.role == Role::vector) continue;
        const int64_t row = w.spec.cols() * size_of(compute_);
        w.whole = arena_.take(compute_, {w.spec.padded_rows, w.spec.cols()});
        if (w.spec.role == Role::table) w.rows = w.whole;
        Bundle::Rows r;
        r.whole = {w.whole.as<std::byte>(), static_cast<size_t>(w.spec.padded_rows * row)};
        r.mine = {w.mine.as<std::byte>(), static_cast<size_t>(w.own.count * row)};
        for (const int64_t border : w.borders) r.offsets.push_back(border * row);
        r.name = w.spec.name;
        bundles[i].rows.push_back(std::move(r));
      }
      end = std::max(end, arena_.mark());
    }
    arena_.release(start);
    arena_.bytes(end - start);
  }
}

void Parameters::clear_gradients(const kn::Exec& exec) {
  if (store_) kn::run(kn::Clear{.x = bucket_}, exec);
  for (WeightState& w : weights_) {
    const bool stored = w.spec.multiplies() && w.chain;  // before anything is added
    if (!stored && !store_) kn::run(kn::Clear{.x = w.grad}, exec);
    if (store_ || exchange_) kn::run(kn::Clear{.x = w.sum}, exec);
  }
  kn::run(kn::Clear{.x = overflows_}, exec);
}

int64_t Parameters::packed_bytes() const {
  int64_t most = 0;
  for (const WeightState& w : weights_) {
    if (w.panels || !w.master || !w.spec.hidden()) continue;
    const int64_t rows = w.slice.row_count(), cols = w.slice.cols;
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
  if (exchange_) {
    if (exec.plan) return;
    return exchange_->spread_weights(weights_, passing_, exec, [&](WeightState& w, const View& slice) { set_compute(exec, w, slice); });
  }
  if (store_) store_->forget();
  for (WeightState& w : weights_)
    if (w.mine)
      kn::run(kn::Convert{.x = reshaped(w.master, {w.master.size()}), .y = reshaped(w.mine, {w.mine.size()})}, exec);
    else if (training_.sharding.states())
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
  if (!s.shared() || store_ || exec.plan) return;
  if (exchange_) return exchange_->sum_gradients(weights_, passing_, exec, CommLabel("gradients", step));
  if (s.states())
    s.comm->reduce_scatter(gradients_, owned_, CommLabel("gradients", step));
  else
    s.comm->all_reduce(gradients_, CommOp::sum, CommLabel("gradients", step));
}

}  // namespace llmctl
