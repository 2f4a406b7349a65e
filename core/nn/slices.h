// SPDX-License-Identifier: Apache-2.0
// What of each weight a rank computes with: all of it (data and context parallel), the rows or columns of
// its leaves (tensor parallel, Shoeybi et al. 2019; NUMERICS rule 3), the weights of its layers (pipeline
// parallel) or of its experts (expert parallel). Who keeps a weight's state is another matter (sharding.h):
// states lie in rows of the whole, whatever the slices, so that digests, norms, optimisers and checkpoints
// know nothing of them.
#pragma once

#include <vector>

#include "core/nn/sharding.h"
#include "core/tensor/arena.h"
#include "core/tensor/table.h"

namespace llmctl {

struct Slice {
  bool held = true;    // else this rank computes without the weight, and rows is empty
  bool counts = true;  // its gradient enters the sum: of ranks that make the same one, one's does
  bool cut_rows = false, cut_cols = false;
  std::vector<RowRange> rows;  // of the whole's padded rows, one after another in memory
  int64_t first_col = 0, cols = 0;
  kn::Leaves forward, backward;  // of products with it
  int64_t row_count() const;
};

// Layers in runs, one run a stage; stage s is at pipeline rank s mod ranks.
struct Stages {
  Stages(int64_t layers, int ranks, int per_rank);
  int ranks, per_rank;
  std::vector<int64_t> borders;  // of layers
  int count() const { return ranks * per_rank; }
  RowRange layers_of(int stage) const;
  int of_layer(int64_t layer) const;
};

// The slices of a table's weights over the axes of a sharding.
class Slicing {
 public:
  Slicing(const Table& table, const Sharding& sharding);
  const Stages& stages() const { return stages_; }
  int ranks() const { return shape_.ranks(); }
  // Ranks of a pipeline stage stand one after another.
  int stage_ranks() const { return shape_.ranks() / shape_.pp; }
  int stage_of(int rank) const { return rank / stage_ranks(); }
  Slice slice(const Weight& weight, int rank) const;
  // Ranks that hold some of the weight, ascending.
  std::vector<int> holders(const Weight& weight) const;
  int holder_count(const Weight& weight) const;
  bool holds(const Weight& weight, int rank) const;
  // Some rank of the stage holds it. A table that is the head too is of two stages.
  bool stage_has(const Weight& weight, int pipeline_rank) const;
  bool of_two_stages(const Weight& weight) const;

 private:
  struct Counts {
    int64_t layers = 0, experts = 0;
  };
  static Counts counts_of(const Table& table);
  Slicing(const Counts& counts, const Sharding& sharding);
  MeshShape shape_;
  int64_t experts_;
  bool sequence_;
  Stages stages_;
};

// Where a weight stands in the model, by its name: -1 for none.
struct Place {
  int layer = -1, expert = -1;
};
Place place_of(const std::string& weight);

// The experts that a rank of an expert-parallel group holds.
RowRange experts_held(int64_t experts, int ranks, int rank);

// For each weight of the table ranks + 1 borders: rank r owns rows [borders[r], borders[r + 1]) of its
// padded rows. Those that hold it share it, as even as the tiles allow. muon: matrices of blocks stay whole.
std::vector<std::vector<int64_t>> cut_rows(const Table& table, const Slicing& slicing, bool muon);

}  // namespace llmctl
