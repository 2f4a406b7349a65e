// SPDX-License-Identifier: Apache-2.0
#include "core/train/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/train/collect.h"
#include "kernels/basic.h"
#include "kernels/math.h"
#include "kernels/muon.h"
#include "kernels/optimizer.h"

namespace llmctl {
namespace {

int64_t tiles_of(const View& v) { return kn::tiles_of(v.rows(), v.cols()); }

constexpr int64_t kDigestRow = 8;  // of 64 bytes: what is planned grows by the same for every block

template <class Visit>
void each_param(Parameters& parameters, Visit&& visit) {
  for (WeightState& w : parameters.all())
    for (size_t i = 0; i < w.spec.params.size(); ++i) visit(w, w.spec.params[i], i);
}

}  // namespace

double tree_sum(const double* values, int64_t n) {
  if (n == 0) return 0.0;
  if (n == 1) return values[0];
  const int64_t half = n / 2;
  return tree_sum(values, half) + tree_sum(values + half, n - half);
}

Optimizer::Optimizer(Parameters& parameters, const Table& whole, Arena& arena, bool digest)
    : parameters_(parameters), arena_(arena), digest_(digest) {
  int64_t tiles = 0, largest = 0, count = 0;
  for (const Weight& w : whole)
    for (const Param& p : w.params) {
      const auto number = static_cast<int64_t>(places_.size());
      places_[p.name] = {number, tiles};
      tiles += w.role == Role::vector ? kn::tiles_of(1, p.rows) : kn::tiles_of(p.rows, p.cols);
    }
  each_param(parameters, [&](WeightState& w, const Param&, size_t i) {
    ++count;
    largest = std::max(largest, tiles_of(w.shape_of(i)));
  });
  norms_ = arena.take(DType::i64, {tiles});  // f64 by size
  tile_digests_ = arena.take(DType::i64, {largest, 4});
  digest_out_ = arena.take(DType::i64, {count, kDigestRow});
  each_param(parameters, [&](WeightState& w, const Param& p, size_t) {
    const ArenaFrame frame(arena);
    if (w.muon) muon_scratch(arena, p.rows, p.cols);
  });
}

std::string Optimizer::overflowed(const kn::Exec& exec) const {
  const std::vector<int32_t> raised = fetched<int32_t>(exec, parameters_.overflows());
  size_t flag = 0;
  for (const WeightState& w : parameters_.all())
    if (raised[flag++] != 0)
      return "the gradient of " + w.spec.params[0].name + (w.spec.params.size() > 1 ? " (or what it is fused with)" : "") +
             " is not finite or too large for fixed point";
  return "";
}

// Where all keep all, each for an even share of it.
RowRange Optimizer::answers_for(const WeightState& w, size_t param) const {
  const auto r = static_cast<size_t>(parameters_.sharding().rank);
  return w.rows_within(param, {w.borders[r], w.borders[r + 1] - w.borders[r]});
}

double Optimizer::grad_norm(double gradient_scale, int64_t step, const kn::Exec& exec) {
  const auto scale = static_cast<float>(gradient_scale);
  Comm* all = parameters_.sharding().comm;
  const bool shared = all && all->size() > 1;
  if (shared) kn::run(kn::Clear{.x = norms_}, exec);
  each_param(parameters_, [&](WeightState& w, const Param& p, size_t i) {
    const RowRange rows = shared ? answers_for(w, i) : w.kept_rows(i);
    if (rows.count == 0) return;
    const View g = w.kept(w.sum, i, rows);
    const int64_t before = w.spec.role == Role::vector ? 0 : kn::tiles_of(rows.begin, p.cols);
    kn::run(kn::GradNorm{.grad = g, .scale = scale,
                         .out = View(norms_.as<int64_t>() + places_.at(p.name).first_tile + before, DType::i64, {tiles_of(g)})},
            exec);
  });
  if (shared) add_bits(*all, {norms_.as<double>(), static_cast<size_t>(norms_.size())}, CommLabel("gradient norms", step));
  return std::sqrt(tree_sum(fetched<double>(exec, norms_).data(), norms_.size()));
}

// Ranks that keep the same weights must have made the same ones: other data, another initial model or a
// flipped bit would else train on unseen.
void Optimizer::check_replicas(int64_t step, const Digest& mine) const {
  const auto low = static_cast<int64_t>(mine.low);
  std::array<int64_t, 2> most{low, ~low};
  parameters_.sharding().comm->all_reduce(most, CommOp::max, CommLabel("replicas", step));
  check(most[0] == ~most[1], Code::device, "[train] step ", step,
        ": ranks that keep the same weights came to different ones: the memory or the inputs of one are wrong");
}

// Digests of parts are sums mod 2^128; all parameters, in the table's order.
void Optimizer::join_digests(int64_t step, const Digest& replica, std::vector<TensorDigest>& digests) const {
  Comm* all = parameters_.sharding().comm;
  if (!all || all->size() == 1) return;
  if (!parameters_.sharding().states()) check_replicas(step, replica);
  std::vector<Digest> sums(2 * places_.size());
  for (const TensorDigest& d : digests) {
    const auto at = static_cast<size_t>(2 * places_.at(d.name).number);
    sums[at] = d.weights, sums[at + 1] = d.gradient;
  }
  add_digests(*all, sums, CommLabel("digests", step));
  digests.resize(places_.size());
  for (const auto& [name, place] : places_) {
    const auto at = static_cast<size_t>(place.number);
    digests[at] = {name, sums[2 * at], sums[2 * at + 1]};
  }
}

double adjusted_rate(const std::string& adjust_lr_fn, int64_t rows, int64_t cols) {
  const auto r = static_cast<double>(rows), c = static_cast<double>(cols);
  return adjust_lr_fn == "original" ? std::sqrt(std::max(1.0, r / c)) : 0.2 * std::sqrt(std::max(r, c));
}

void Optimizer::adamw(const Step& step, WeightState& w, size_t i, const View& digest, const kn::Exec& exec) {
  const OptimizerConfig& o = step.o;
  const Param& p = w.spec.params[i];
  const RowRange rows = w.kept_rows(i);
  if (rows.count == 0) return;
  kn::AdamW op{.grad = w.kept(w.sum, i), .master = w.kept(w.master, i), .m = w.kept(w.m, i), .v = w.kept(w.v, i)};
  op.first_row = w.spec.role == Role::vector ? 0 : rows.begin;
  op.scale = step.scale;
  op.lr = static_cast<float>(step.rate);
  op.beta1 = static_cast<float>(o.beta1);
  op.beta2 = static_cast<float>(o.beta2);
  op.eps = static_cast<float>(o.eps);
  op.decay = p.decay ? static_cast<float>(o.weight_decay) : 0.0f;
  op.bias1 = static_cast<float>(1.0 - kn::powint64(o.beta1, step.number));
  op.bias2 = static_cast<float>(1.0 - kn::powint64(o.beta2, step.number));
  op.digest_key = digest_of(p.name).low;
  if (digest_) {
    op.tile_digests = rows_of(tile_digests_, 0, tiles_of(op.master));
    op.digest = digest;
  }
  kn::run(op, exec);
}

void Optimizer::muon(const Step& step, WeightState& w, size_t i, const View& digest, const kn::Exec& exec) {
  const OptimizerConfig& o = step.o;
  const Param& p = w.spec.params[i];
  if (w.kept_rows(i).count == 0) return;
  const ArenaFrame frame(arena_);
  const MuonScratch scratch = muon_scratch(arena_, p.rows, p.cols);
  kn::MuonMomentum first{.grad = w.kept(w.sum, i), .m = w.kept(w.m, i), .update = scratch.update};
  kn::MuonUpdate last{.update = scratch.update, .master = w.kept(w.master, i)};
  first.scale = step.scale;
  first.momentum = static_cast<float>(o.momentum);
  first.nesterov = o.nesterov;
  first.digest_key = last.digest_key = digest_of(p.name).low;
  if (digest_) {
    const int64_t tiles = tiles_of(scratch.update);
    first.tile_digests = last.tile_digests = View(tile_digests_.data, DType::i64, {tiles, 2});
    first.digest = View(digest.as<int64_t>() + 2, DType::i64, {2});
    last.digest = View(digest.data, DType::i64, {2});
  }
  kn::run(first, exec);
  const float factor = orthogonalize(scratch, o.ns_steps, exec);
  last.lr = static_cast<float>(step.matrix_rate);
  last.decay = p.decay ? static_cast<float>(o.weight_decay) : 0.0f;
  last.step = static_cast<float>(step.matrix_rate * adjusted_rate(o.adjust_lr_fn, p.rows, p.cols)) * factor;
  kn::run(last, exec);
}

UpdateResult Optimizer::update(const TrainConfig& config, int64_t step, double gradient_scale, const kn::Exec& exec,
                               std::optional<double> norm) {
  const OptimizerConfig& o = config.optimizer;
  UpdateResult result;
  result.learning_rate = learning_rate_at(o, config.schedule, step);
  if (!exec.plan) result.grad_norm = norm ? *norm : grad_norm(gradient_scale, step, exec);
  check(std::isfinite(result.grad_norm), Code::input, "[train] step ", step, ": the gradient norm is not finite");
  double clip = 1.0;
  if (o.clip > 0 && result.grad_norm > o.clip) clip = o.clip / (result.grad_norm + 1e-6);
  OptimizerConfig matrices = o;
  if (o.matrix_learning_rate > 0) matrices.learning_rate = o.matrix_learning_rate;
  const Step s{o, step + 1, static_cast<float>(gradient_scale * clip), result.learning_rate,
               learning_rate_at(matrices, config.schedule, step)};
  if (digest_) kn::run(kn::Clear{.x = digest_out_}, exec);
  int64_t at = 0;
  each_param(parameters_, [&](WeightState& w, const Param&, size_t i) {
    if (gate_ && !exec.plan) gate_->wait(static_cast<size_t>(&w - parameters_.all().data()));
    const View digest(digest_out_.as<int64_t>() + at++ * kDigestRow, DType::i64, {4});
    w.muon ? muon(s, w, i, digest, exec) : adamw(s, w, i, digest, exec);
  });
  if (digest_ && !exec.plan) {
    const std::vector<uint64_t> d = fetched<uint64_t>(exec, digest_out_);
    const Sharding& sharding = parameters_.sharding();
    Digest replica;
    size_t row = 0;
    each_param(parameters_, [&](WeightState&, const Param& p, size_t) {
      if (sharding.states() || sharding.rank == 0)
        result.digests.push_back({p.name, {d[row], d[row + 1]}, {d[row + 2], d[row + 3]}});
      replica += {d[row], d[row + 1]};
      row += kDigestRow;
    });
    join_digests(step, replica, result.digests);
  }
  parameters_.refresh(exec);
  return result;
}

}  // namespace llmctl
