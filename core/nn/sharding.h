// SPDX-License-Identifier: Apache-2.0
// Who computes what, and who keeps what of a model's state (ZeRO: Rajbhandari et al. 2020). Each rank owns
// a run of rows of the weights it computes with, cut where digests and norms have their tiles (64 rows of
// a parameter), so that no cut changes a bit (NUMERICS rule 16). A vector, and a matrix that Muon updates,
// is not cut.
//
//   stage 0  every rank keeps all; gradients are summed on all
//   stage 1  masters and moments of the own rows; gradients are summed by their owners
//   stage 2  and gradients, which pass to their owners block by block
//   stage 3  and weights, which come from their owners block by block
//
// Where ranks compute with slices (slices.h) what comes and goes are these, among the ranks of a pipeline stage;
// vectors, and a table that two stages hold, pass at the step's end whatever the stage.
#pragma once

#include "core/base/mesh.h"

namespace llmctl {

struct Sharding {
  int rank = 0, ranks = 1;
  int stage = 0;
  Comm* comm = nullptr;        // of all ranks; may be null in a plan or for one rank
  MeshShape axes = {};         // dp is what the others leave of the ranks
  const Mesh* mesh = nullptr;  // with comm, where an axis but dp is above 1
  int virtual_stages = 1;      // of each pipeline rank
  bool sequence = false;       // tensor-parallel ranks share out the residual stream by rows (Ctx::share)
  double expert_capacity = 0;  // core/nn/expert_rows.h

  bool shared() const { return ranks > 1; }
  // Ranks compute with slices of weights (slices.h): then states are shared out whatever the stage.
  bool cut() const { return axes.tp * axes.pp * axes.ep > 1; }
  bool states() const { return shared() && (stage >= 1 || cut()); }
  bool gradients() const { return shared() && stage >= 2; }
  bool weights() const { return shared() && stage >= 3; }
  MeshShape shape() const;
  int size(Axis axis) const { return shape().size(axis); }
  int at(Axis axis) const { return coordinates(shape(), rank)[static_cast<size_t>(axis)]; }
  // The ranks that differ from this one along `axis` only.
  RankGroup along(Axis axis) const {
    return {mesh && size(axis) > 1 ? &mesh->group(axis) : nullptr, size(axis), at(axis)};
  }
  // Ranks that compute different units, and which of them this one is.
  int replicas() const { return size(Axis::dp) * size(Axis::ep); }
  int replica() const { return at(Axis::dp) * size(Axis::ep) + at(Axis::ep); }
  // Of the ranks that share a unit, the one that says what it came to.
  bool speaks() const { return at(Axis::tp) == 0 && at(Axis::pp) + 1 == size(Axis::pp); }
};

}  // namespace llmctl
