// SPDX-License-Identifier: Apache-2.0
// The end of a step: gradient norm, clipping, AdamW or Muon with the digest, and the new compute copy.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/nn/parameters.h"
#include "core/train/config.h"
#include "core/train/muon.h"
#include "core/train/save_gate.h"

namespace llmctl {

struct TensorDigest {
  std::string name;
  Digest weights, gradient;
};

struct UpdateResult {
  double grad_norm = 0;  // before clipping
  double learning_rate = 0;
  std::vector<TensorDigest> digests;  // empty when switched off
};

class Optimizer {
 public:
  // Scratch is taken from `arena` (planned with the rest). Each rank updates what it keeps; norms and
  // digests are of the whole model, all stages of it, on all ranks (Parameters::sharding).
  Optimizer(Parameters& parameters, const Table& whole, Arena& arena, bool digest);

  // Updates of a weight wait until a save that runs beside them has written it.
  void wait_at(SaveGate* gate) { gate_ = gate; }
  // Names the first tensor whose gradient overflowed or was not finite, "" when none did.
  std::string overflowed(const kn::Exec& exec) const;
  // gradient_scale turns the accumulated sums into the mean gradient. step counts from 0.
  double grad_norm(double gradient_scale, int64_t step, const kn::Exec& exec);
  // `norm`: where it is known already.
  UpdateResult update(const TrainConfig& config, int64_t step, double gradient_scale, const kn::Exec& exec,
                      std::optional<double> norm = std::nullopt);

 private:
  // What the tensors of a step share.
  struct Step {
    const OptimizerConfig& o;
    int64_t number;                 // from 1
    float scale;                    // of the gradient, clipping included
    double rate, matrix_rate;
  };
  void join_digests(int64_t step, const Digest& replica, std::vector<TensorDigest>& digests) const;
  void check_replicas(int64_t step, const Digest& mine) const;
  // Whether this rank is the one that says what a row of a weight came to.
  RowRange answers_for(const WeightState& w, size_t param) const;
  void adamw(const Step& step, WeightState& w, size_t i, const View& digest, const kn::Exec& exec);
  void muon(const Step& step, WeightState& w, size_t i, const View& digest, const kn::Exec& exec);
  Parameters& parameters_;
  Arena& arena_;
  bool digest_;
  SaveGate* gate_ = nullptr;
  struct Place {
    int64_t number, first_tile;  // of a parameter, among all
  };
  std::map<std::string, Place> places_;
  View norms_;         // f64 tiles of all tensors, as i64
  View tile_digests_;  // i64 (tiles of the largest tensor, 4)
  View digest_out_;    // i64 (parameters, 8), the first 4 of a row
};

// torch.optim.Muon's factor of the learning rate of a (rows, cols) matrix.
double adjusted_rate(const std::string& adjust_lr_fn, int64_t rows, int64_t cols);

// Balanced binary tree over [0, n): the order does not depend on who computed what.
double tree_sum(const double* values, int64_t n);

}  // namespace llmctl
