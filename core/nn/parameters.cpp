// SPDX-License-Identifier: Apache-2.0
#include "core/nn/parameters.h"

#include <algorithm>

#include "core/nn/context.h"
#include "kernels/basic.h"

namespace llmctl {

namespace {

constexpr int kHeadBundle = -1;  // the last, once their number is known

// Embeddings, blocks, and what comes after them.
int bundle_of(const std::string& name) {
  if (name == "embed" || name == "positions") return 0;
  const int layer = place_of(name).layer;
  return layer < 0 ? kHeadBundle : layer + 1;
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
  const auto borders = cut_rows(table, slicing, training_.update == Update::muon);
  for (size_t i = 0; i < table.size(); ++i) {
    WeightState w;
    w.spec = std::move(table[i]);
    w.muon = training_.update == Update::muon && w.spec.hidden();
    if (w.spec.padded_rows == 0) w.spec.padded_rows = w.spec.rows();
    w.slice = slicing.slice(w.spec, s.rank);
    w.borders = borders[i];
    w.bundle = bundle_of(w.spec.name);
    // Vectors are small, and what two stages of a pipeline hold has no pass in common.
    w.in_bundle = s.gradients() && (!s.cut() || (w.spec.role != Role::vector && !slicing.of_two_stages(w.spec)));
    w.comes = s.weights() && w.in_bundle && w.spec.role != Role::vector;
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
  if (s.cut()) exchange_ = std::make_unique<SliceExchange>(slicing, s, compute_, weights_);
  if (s.cut() && s.weights()) beside_ = std::make_unique<kn::ThreadPool>(1);
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
    const bool is_master = training && !sharded && (compute_ == DType::f32 || w.spec.role == Role::table);
    if (w.comes) w.mine = arena_.take(compute_, {w.own.count, w.spec.cols()});
    if (w.spec.role != Role::linear && !w.comes) w.rows = is_master ? w.master : take(compute_, rows);
    w.whole = sharded ? w.rows : w.master;
    if (w.spec.role == Role::linear && sharded && !w.comes && !exchange_) largest = std::max(largest, rows * cols * size_of(compute_));
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
  else if (training && !store_)
    place_gradients();
  if (store_) place_bundles();
  if (sharded && !exchange_) gathered_ = arena_.bytes(largest);
  if (!exchange_) return;
  last_gradients_ = rounds_of([](const WeightState& w) { return !w.in_bundle; });
  last_weights_ = rounds_of([](const WeightState& w) { return !w.comes; });
  int64_t passing = std::max(last_gradients_.gradient_bytes, last_weights_.weight_bytes), coming = 0;
  for (const SliceExchange::Rounds& r : bundle_rounds_)
    passing = std::max(passing, r.gradient_bytes), coming = std::max(coming, r.weight_bytes);
  passing_ = arena_.bytes(passing);
  if (training_.sharding.weights()) coming_ = arena_.bytes(coming);
}

SliceExchange::Rounds Parameters::rounds_of(const std::function<bool(const WeightState&)>& which) const {
  std::vector<size_t> found;
  for (size_t i = 0; i < weights_.size(); ++i)
    if (which(weights_[i])) found.push_back(i);
  return exchange_->rounds_of(weights_, found);
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
    if (!w.in_bundle) w.grad = take(w.slice.row_count(), w.slice.cols);
    w.sum = take(w.own.count, w.spec.cols());
  }
}

// Gradients lie in one bucket, a bundle at a time.
void Parameters::place_bucket() {
  bundle_sizes_.clear();
  for (const WeightState& w : weights_) {
    if (!w.in_bundle) continue;
    bundle_sizes_.resize(std::max(bundle_sizes_.size(), static_cast<size_t>(w.bundle) + 1));
    bundle_sizes_[static_cast<size_t>(w.bundle)] += w.slice.row_count() * w.slice.cols;
  }
  bucket_ = arena_.take(DType::i64, {*std::max_element(bundle_sizes_.begin(), bundle_sizes_.end())});
  std::vector<int64_t> at(bundle_sizes_.size());
  for (WeightState& w : weights_) {
    if (!w.in_bundle) continue;
    int64_t& begin = at[static_cast<size_t>(w.bundle)];
    const int64_t rows = w.slice.row_count(), cols = w.slice.cols;
    int64_t* grad = bucket_.as<int64_t>() + begin;
    w.grad = w.spec.role == Role::vector ? View(grad, DType::i64, {rows}) : View(grad, DType::i64, {rows, cols});
    begin += rows * cols;
  }
}

// What passes between ranks with each bundle. Where they hold whole weights its gradients are one run.
void Parameters::place_bundles() {
  place_bucket();
  int last = 0;
  for (const WeightState& w : weights_) last = std::max(last, w.bundle);
  std::vector<Bundle> bundles(static_cast<size_t>(last) + 1);
  if (training_.sharding.weights()) place_whole(bundles);
  if (exchange_) {
    exchange_in_bundles(bundles);
    return store_->set(std::move(bundles));
  }
  struct Sum {
    View from, to;
  };
  std::vector<std::vector<Sum>> sums(bundles.size());
  std::vector<std::vector<int64_t>> offsets(bundles.size(), std::vector<int64_t>(static_cast<size_t>(training_.sharding.ranks) + 1));
  for (WeightState& w : weights_) {
    const auto b = static_cast<size_t>(w.bundle);
    const int64_t cols = w.spec.cols(), at = w.grad.as<int64_t>() - bucket_.as<int64_t>();
    w.sum = w.spec.role == Role::vector ? arena_.take(DType::i64, {w.own.count}) : arena_.take(DType::i64, {w.own.count, cols});
    for (size_t r = 0; r < w.borders.size(); ++r)
      if (w.borders[r] > 0) offsets[b][r] = at + w.borders[r] * cols;
    if (w.own.count > 0)
      sums[b].push_back({View(w.grad.as<int64_t>() + w.own.begin * cols, DType::i64, {w.own.count * cols}), reshaped(w.sum, {w.sum.size()})});
  }
  for (size_t b = 0; b < bundles.size(); ++b)
    bundles[b].reduce = [gradients = View(bucket_.data, DType::i64, {bundle_sizes_[b]}), to = offsets[b], own = sums[b]](
                            Comm& comm, const kn::Exec& exec) {
      comm.reduce_scatter(std::span(gradients.as<int64_t>(), static_cast<size_t>(gradients.size())), to, "gradients");
      for (const Sum& s : own) kn::run(kn::AddWhole{.x = s.from, .y = s.to}, exec);
      kn::run(kn::Clear{.x = gradients}, exec);
    };
  store_->set(std::move(bundles));
}

// Slices pass between the ranks of a pipeline stage. Of experts a rank may hold nothing: it owns nothing of them,
// and its part of the call is empty.
void Parameters::exchange_in_bundles(std::vector<Bundle>& bundles) {
  const Sharding& s = training_.sharding;
  const int count = s.ranks / s.size(Axis::pp);
  const SliceExchange::Peers stage{nullptr, s.at(Axis::pp) * count, count};
  bundle_rounds_.assign(bundles.size(), {});
  for (size_t b = 0; b < bundles.size(); ++b) {
    bundle_rounds_[b] = rounds_of([&](const WeightState& w) {
      const auto first = w.borders.begin() + stage.first;
      return w.in_bundle && w.bundle == static_cast<int>(b) && first[0] < first[stage.count];  // the stage owns rows of it
    });
    if (bundle_rounds_[b].of.empty()) continue;
    bundles[b].reduce = [this, b, stage](Comm& comm, const kn::Exec& exec) {
      exchange_->sum_gradients(bundle_rounds_[b], {&comm, stage.first, stage.count}, weights_, passing_, exec, "gradients");
      kn::run(kn::Clear{.x = View(bucket_.data, DType::i64, {bundle_sizes_[b]})}, exec);
    };
    if (s.weights())
      bundles[b].fetch = [this, b, stage](Comm& comm) {
        kn::Exec exec;
        exec.pool = beside_.get();  // a pool is used by one thread at a time
        exchange_->spread_weights(bundle_rounds_[b], {&comm, stage.first, stage.count}, weights_, coming_, exec, nullptr);
      };
  }
}

// Neighbours have memory of their own, so that one can come while the other is used.
void Parameters::place_whole(std::vector<Bundle>& bundles) {
  std::map<int, std::vector<WeightState*>> here;
  for (WeightState& w : weights_)
    if (w.comes && w.slice.held) here[w.bundle].push_back(&w);
  const int64_t start = arena_.mark();
  std::array<int64_t, 2> ends{start, start};
  for (int slot : {0, 1}) {
    const int64_t begin = slot == 0 ? start : ends[0];
    int number = 0;
    ends[static_cast<size_t>(slot)] = begin;
    for (auto& [b, weights] : here) {
      if (number++ % 2 != slot) continue;
      arena_.release(begin);
      bundles[static_cast<size_t>(b)].slot = slot;
      for (WeightState* w : weights) {
        w->whole = arena_.take(compute_, {w->slice.row_count(), w->slice.cols});
        if (w->spec.role == Role::table) w->rows = w->whole;
      }
      ends[static_cast<size_t>(slot)] = std::max(ends[static_cast<size_t>(slot)], arena_.mark());
      if (!exchange_)
        bundles[static_cast<size_t>(b)].fetch = [this, weights](Comm& comm) {
          for (const WeightState* w : weights) fetch_whole(comm, *w);
        };
    }
  }
  arena_.release(start);
  arena_.bytes(ends[1] - start);
}

void Parameters::fetch_whole(Comm& comm, const WeightState& w) const {
  comm.all_gather(memory_of(w.mine), memory_of(w.whole), in_bytes(w.borders, w.spec.cols() * size_of(compute_)), w.spec.name);
}

void Parameters::clear_gradients(const kn::Exec& exec) {
  if (bucket_) kn::run(kn::Clear{.x = bucket_}, exec);
  for (WeightState& w : weights_) {
    const bool stored = w.spec.multiplies() && w.chain;  // before anything is added
    if (!stored && !w.in_bundle) kn::run(kn::Clear{.x = w.grad}, exec);
    if (store_ || exchange_) kn::run(kn::Clear{.x = w.sum}, exec);
  }
  kn::run(kn::Clear{.x = overflows_}, exec);
}

int64_t Parameters::packed_bytes() const {
  int64_t most = 0;
  for (const WeightState& w : weights_) {
    if (w.panels || purpose_ == Purpose::inference || !w.spec.hidden()) continue;
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
  if (store_ && !exec.plan) store_->forget();
  for (WeightState& w : weights_)
    if (w.comes && w.own.count > 0)
      kn::run(kn::Convert{.x = reshaped(w.master, {w.master.size()}), .y = reshaped(w.mine, {w.mine.size()})}, exec);
  if (exchange_) {
    if (exec.plan) return;
    return exchange_->spread_weights(last_weights_, world(), weights_, passing_, exec,
                                     [&](WeightState& w, const View& slice) { set_compute(exec, w, slice); });
  }
  for (WeightState& w : weights_)
    if (w.comes)
      continue;
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
  if (!s.shared() || exec.plan) return;
  if (exchange_) return exchange_->sum_gradients(last_gradients_, world(), weights_, passing_, exec, CommLabel("gradients", step));
  if (store_) return;
  if (s.states())
    s.comm->reduce_scatter(gradients_, owned_, CommLabel("gradients", step));
  else
    s.comm->all_reduce(gradients_, CommOp::sum, CommLabel("gradients", step));
}

}  // namespace llmctl
