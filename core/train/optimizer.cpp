// SPDX-License-Identifier: Apache-2.0
#include "core/train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "kernels/basic.h"
#include "kernels/math.h"
#include "kernels/muon.h"
#include "kernels/optimizer.h"

namespace llmctl {
namespace {

int64_t tiles_of(const View& v) { return kn::tiles_of(v.rows(), v.cols()); }

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

Optimizer::Optimizer(Parameters& parameters, Arena& arena, bool digest)
    : parameters_(parameters), arena_(arena), digest_(digest) {
  int64_t total = 0, largest = 0;
  norm_borders_.assign(static_cast<size_t>(parameters.sharding().ranks) + 1, 0);
  each_param(parameters, [&](WeightState& w, const Param&, size_t i) {
    const View whole = w.param_rows(w.grad, i);
    for (size_t r = 0; r < norm_borders_.size(); ++r)
      if (const int64_t rows = w.rows_before(w.borders[r], i); rows > 0)
        norm_borders_[r] = total + (w.spec.role == Role::vector ? tiles_of(whole) : kn::tiles_of(rows, whole.cols()));
    total += tiles_of(whole);
    largest = std::max(largest, tiles_of(whole));
  });
  norms_ = arena.take(DType::i64, {total});  // f64 by size
  tile_digests_ = arena.take(DType::i64, {largest, 4});
  digest_out_ = arena.take(DType::i64, {4});
  each_param(parameters, [&](WeightState& w, const Param& p, size_t) {
    const ArenaFrame frame(arena);
    if (w.muon) muon_scratch(arena, p.rows, p.cols);
  });
}

void Optimizer::check_overflow(const std::string& where) const {
  for (const WeightState& w : parameters_.all())
    check(*w.overflow.as<int32_t>() == 0, Code::input, "[train] ", where, ": the gradient of ", w.spec.params[0].name,
          w.spec.params.size() > 1 ? " (or what it is fused with)" : "",
          " is not finite or too large for fixed point; the weights of the step before are kept");
}

double Optimizer::grad_norm(float scale, int64_t step, const kn::Exec& exec) {
  const Sharding& s = parameters_.sharding();
  int64_t at = s.states() ? norm_borders_[static_cast<size_t>(s.rank)] : 0;
  each_param(parameters_, [&](WeightState& w, const Param&, size_t i) {
    const View g = w.kept(w.sum, i);
    const int64_t tiles = tiles_of(g);
    if (tiles == 0) return;
    kn::run(kn::GradNorm{.grad = g, .scale = scale, .out = View(norms_.as<int64_t>() + at, DType::i64, {tiles})}, exec);
    at += tiles;
  });
  if (s.states()) {
    std::vector<int64_t> offsets;
    for (const int64_t tiles : norm_borders_) offsets.push_back(tiles * 8);
    const std::span<std::byte> all = std::as_writable_bytes(std::span(norms_.as<int64_t>(), static_cast<size_t>(norms_.size())));
    const auto from = static_cast<size_t>(offsets[static_cast<size_t>(s.rank)]);
    s.comm->all_gather(all.subspan(from, static_cast<size_t>(at) * 8 - from), all, offsets, CommLabel("gradient norms", step));
  }
  return std::sqrt(tree_sum(norms_.as<double>(), norms_.size()));
}

// Each rank has digested its rows: sums mod 2^128, of which order does not matter.
void Optimizer::join_digests(int64_t step, std::vector<TensorDigest>& digests) const {
  const Sharding& s = parameters_.sharding();
  if (!s.states() || digests.empty()) return;
  std::vector<Digest> mine;
  for (const TensorDigest& d : digests) mine.insert(mine.end(), {d.weights, d.gradient});
  std::vector<Digest> all(mine.size() * static_cast<size_t>(s.ranks));
  s.comm->all_gather(bytes_of(std::span(mine)), writable_bytes_of(std::span(all)),
                     even_offsets(static_cast<int64_t>(all.size() * sizeof(Digest)), s.ranks), CommLabel("digests", step));
  for (size_t i = 0; i < digests.size(); ++i) {
    digests[i].weights = digests[i].gradient = {};
    for (size_t from = 2 * i; from < all.size(); from += mine.size()) {
      digests[i].weights += all[from];
      digests[i].gradient += all[from + 1];
    }
  }
}

double adjusted_rate(const std::string& adjust_lr_fn, int64_t rows, int64_t cols) {
  const auto r = static_cast<double>(rows), c = static_cast<double>(cols);
  return adjust_lr_fn == "original" ? std::sqrt(std::max(1.0, r / c)) : 0.2 * std::sqrt(std::max(r, c));
}

void Optimizer::adamw(const Step& step, WeightState& w, size_t i, const kn::Exec& exec) {
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
    op.digest = digest_out_;
  }
  kn::run(op, exec);
}

void Optimizer::muon(const Step& step, WeightState& w, size_t i, const kn::Exec& exec) {
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
    first.digest = View(digest_out_.as<int64_t>() + 2, DType::i64, {2});
    last.digest = View(digest_out_.data, DType::i64, {2});
  }
  kn::run(first, exec);
  const float factor = orthogonalize(scratch, o.ns_steps, exec);
  last.lr = static_cast<float>(step.matrix_rate);
  last.decay = p.decay ? static_cast<float>(o.weight_decay) : 0.0f;
  last.step = static_cast<float>(step.matrix_rate * adjusted_rate(o.adjust_lr_fn, p.rows, p.cols)) * factor;
  kn::run(last, exec);
}

UpdateResult Optimizer::update(const TrainConfig& config, int64_t step, double gradient_scale, const kn::Exec& exec) {
  const OptimizerConfig& o = config.optimizer;
  UpdateResult result;
  result.learning_rate = learning_rate_at(o, config.schedule, step);
  if (!exec.plan) result.grad_norm = grad_norm(static_cast<float>(gradient_scale), step, exec);
  check(std::isfinite(result.grad_norm), Code::input, "[train] step ", step, ": the gradient norm is not finite");
  double clip = 1.0;
  if (o.clip > 0 && result.grad_norm > o.clip) clip = o.clip / (result.grad_norm + 1e-6);
  OptimizerConfig matrices = o;
  if (o.matrix_learning_rate > 0) matrices.learning_rate = o.matrix_learning_rate;
  const Step s{o, step + 1, static_cast<float>(gradient_scale * clip), result.learning_rate,
               learning_rate_at(matrices, config.schedule, step)};
  each_param(parameters_, [&](WeightState& w, const Param& p, size_t i) {
    if (digest_) kn::run(kn::Clear{.x = digest_out_}, exec);
    w.muon ? muon(s, w, i, exec) : adamw(s, w, i, exec);
    if (!digest_ || exec.plan) return;
    const auto* d = digest_out_.as<uint64_t>();
    result.digests.push_back({p.name, {d[0], d[1]}, {d[2], d[3]}});
  });
  if (!exec.plan) join_digests(step, result.digests);
  parameters_.refresh(exec);
  return result;
}

}  // namespace llmctl
