// SPDX-License-Identifier: Apache-2.0
// Who keeps what of a model's state in a data-parallel group (ZeRO: Rajbhandari et al. 2020). Each rank
// owns a contiguous run of the table's rows, cut where digests and norms have their tiles (64 rows of a
// parameter), so that no cut changes a bit (NUMERICS rule 16). A vector, and a matrix that Muon updates,
// is not cut.
//
//   stage 0  every rank keeps all; gradients are summed on all
//   stage 1  masters and moments of the own rows; gradients are summed by their owners
//   stage 2  and gradients, which pass to their owners block by block
//   stage 3  and weights, which come from their owners block by block
#pragma once

#include <vector>

#include "core/base/mesh.h"
#include "core/tensor/table.h"

namespace llmctl {

struct Sharding {
  int rank = 0, ranks = 1;
  int stage = 0;
  Comm* comm = nullptr;        // of all ranks; may be null in a plan or for one rank
  MeshShape axes = {};         // dp is what the others leave of the ranks
  const Mesh* mesh = nullptr;  // with comm, where an axis but dp is above 1

  bool shared() const { return ranks > 1; }
  bool states() const { return shared() && stage >= 1; }
  bool gradients() const { return shared() && stage >= 2; }
  bool weights() const { return shared() && stage >= 3; }
  MeshShape shape() const;
  int size(Axis axis) const { return shape().size(axis); }
  int at(Axis axis) const { return coordinates(shape(), rank)[static_cast<size_t>(axis)]; }
  // Of the ranks that differ from this one along `axis` only; null where it is 1 and in a plan.
  Comm* group(Axis axis) const { return mesh && size(axis) > 1 ? &mesh->group(axis) : nullptr; }
  // Ranks that compute different units, and which of them this one is.
  int replicas() const { return size(Axis::dp) * size(Axis::ep); }
  int replica() const { return at(Axis::dp) * size(Axis::ep) + at(Axis::ep); }
};

// For each weight of the table ranks + 1 borders: rank r owns rows [borders[r], borders[r + 1]) of its
// padded rows, in a share as even as the tiles allow. muon: matrices of blocks stay whole.
std::vector<std::vector<int64_t>> cut_rows(const Table& table, int ranks, bool muon);

}  // namespace llmctl
