// SPDX-License-Identifier: Apache-2.0
#include "core/nn/slices.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "kernels/optimizer.h"

namespace llmctl {
namespace {

struct Cut {
  size_t weight;
  int64_t row;       // the first that belongs to the next rank
  int64_t elements;  // before it, of all the weights
};

// Every place where the weights may be cut, in order, their two ends among them.
std::vector<Cut> places(const std::vector<const Weight*>& weights, bool muon) {
  std::vector<Cut> found;
  int64_t elements = 0;
  for (size_t w = 0; w < weights.size(); ++w) {
    const bool whole = weights[w]->role == Role::vector || (muon && weights[w]->hidden());
    int64_t row = 0;
    for (const Param& p : weights[w]->params) {
      for (int64_t r = 0; r < p.rows; r += whole ? p.rows : kn::kTileRows) {
        const bool inside = row + r > 0;
        if (!inside || weights[w]->role != Role::vector) found.push_back({w, row + r, elements + r * p.cols});
      }
      row += p.rows;
      elements += p.rows * p.cols;
    }
  }
  found.push_back({weights.size(), 0, elements});
  return found;
}

std::vector<Cut> even_cuts(const std::vector<const Weight*>& weights, int ranks, bool muon) {
  const std::vector<Cut> cuts = places(weights, muon);
  const int64_t total = cuts.back().elements;
  std::vector<Cut> chosen{cuts.front()};
  for (int r = 1; r < ranks; ++r) {
    const int64_t want = total / ranks * r + total % ranks * r / ranks;
    auto at = std::lower_bound(cuts.begin(), cuts.end(), want, [](const Cut& c, int64_t n) { return c.elements < n; });
    if (at != cuts.begin() && want - std::prev(at)->elements < at->elements - want) --at;
    chosen.push_back(*at);
  }
  chosen.push_back(cuts.back());
  return chosen;
}

int64_t all_rows(const Weight& w) { return w.padded_rows ? w.padded_rows : w.rows(); }

// Leaves [rank * count / ranks, (rank + 1) * count / ranks) of each part.
kn::Leaves share_of(kn::Leaves leaves, int ranks) {
  leaves.count /= ranks;
  for (int64_t& width : leaves.width) width /= ranks;
  return leaves;
}

// Norms of the residual stream see the rows of a rank.
bool of_stream(const std::string& weight) {
  return weight.find("norm1") != std::string::npos || weight.find("norm2") != std::string::npos || weight.starts_with("final_norm");
}

// What a bias is cut by is the product's contraction in the backward pass.
std::vector<RowRange> row_share(const Weight& w, int rank, int ranks) {
  std::vector<RowRange> runs;
  int64_t begin = 0;
  for (int p = 0; p < w.backward.parts; ++p) {
    const int64_t width = w.backward.width[p], share = width / ranks;
    runs.push_back({begin + rank * share, share});
    begin += width;
  }
  return runs;
}

}  // namespace

Place place_of(const std::string& weight) {
  Place p;
  const int found = std::sscanf(weight.c_str(), "blocks.%d.experts.%d.", &p.layer, &p.expert);
  if (found < 1) p.layer = -1;
  if (found < 2) p.expert = -1;
  return p;
}

RowRange experts_held(int64_t experts, int ranks, int rank) {
  const int64_t begin = (rank * experts + ranks - 1) / ranks, end = ((rank + 1) * experts + ranks - 1) / ranks;
  return {begin, end - begin};
}

int64_t Slice::row_count() const {
  int64_t n = 0;
  for (const RowRange& r : rows) n += r.count;
  return n;
}

Stages::Stages(int64_t layers, int pipeline_ranks, int stages_per_rank)
    : ranks(pipeline_ranks), per_rank(stages_per_rank), borders(even_offsets(layers, pipeline_ranks * stages_per_rank)) {}

RowRange Stages::layers_of(int stage) const {
  const auto s = static_cast<size_t>(stage);
  return {borders[s], borders[s + 1] - borders[s]};
}

int Stages::of_layer(int64_t layer) const {
  return static_cast<int>(std::upper_bound(borders.begin(), borders.end(), layer) - borders.begin()) - 1;
}

Slicing::Counts Slicing::counts_of(const Table& table) {
  Counts n;
  for (const Weight& w : table) {
    const Place p = place_of(w.name);
    n = {std::max<int64_t>(n.layers, p.layer + 1), std::max<int64_t>(n.experts, p.expert + 1)};
  }
  return n;
}

Slicing::Slicing(const Table& table, const Sharding& s) : Slicing(counts_of(table), s) {}

Slicing::Slicing(const Counts& counts, const Sharding& s)
    : shape_(s.shape()), experts_(counts.experts), sequence_(s.sequence),
      stages_(counts.layers, shape_.pp, shape_.pp > 1 ? s.virtual_stages : 1) {}

bool Slicing::stage_has(const Weight& w, int pipeline_rank) const {
  if (shape_.pp == 1) return true;
  const int layer = place_of(w.name).layer;
  if (layer >= 0) return stages_.of_layer(layer) % shape_.pp == pipeline_rank;
  const bool first = pipeline_rank == 0, last = pipeline_rank == shape_.pp - 1;
  if (w.name == "embed" || w.name == "positions") return first || (last && w.tied_head);
  return last;
}

bool Slicing::of_two_stages(const Weight& w) const { return shape_.pp > 1 && w.tied_head; }

int Slicing::holder_count(const Weight& w) const {
  const int of_stage = stage_ranks() / (shape_.ep > 1 && place_of(w.name).expert >= 0 ? shape_.ep : 1);
  return of_two_stages(w) ? 2 * of_stage : of_stage;
}

bool Slicing::holds(const Weight& w, int rank) const {
  if (shape_.pp == 1 && shape_.ep == 1) return true;
  const auto at = coordinates(shape_, rank);
  if (!stage_has(w, at[static_cast<size_t>(Axis::pp)])) return false;
  if (shape_.ep == 1) return true;
  const int expert = place_of(w.name).expert;
  if (expert < 0) return true;
  const RowRange here = experts_held(experts_, shape_.ep, at[static_cast<size_t>(Axis::ep)]);
  return expert >= here.begin && expert < here.begin + here.count;
}

std::vector<int> Slicing::holders(const Weight& w) const {
  std::vector<int> found;
  for (int r = 0; r < shape_.ranks(); ++r)
    if (holds(w, r)) found.push_back(r);
  return found;
}

Slice Slicing::slice(const Weight& w, int rank) const {
  Slice s{.cols = w.cols(), .forward = w.forward, .backward = w.backward};
  s.held = holds(w, rank);
  if (!s.held) return s;
  s.rows = {{0, all_rows(w)}};
  const int tp = shape_.tp, at = coordinates(shape_, rank)[static_cast<size_t>(Axis::tp)];
  if (tp == 1) return s;
  const ShardDim shard = w.params.front().shard;
  s.counts = shard != ShardDim::none || w.dealt || at == 0 || (sequence_ && of_stream(w.name));
  if (shard == ShardDim::rows) {
    s.cut_rows = true;
    s.rows = row_share(w, at, tp);
    s.backward = share_of(w.backward, tp);
  } else if (shard == ShardDim::cols) {
    s.cut_cols = true;
    s.cols = w.cols() / tp;
    s.first_col = at * s.cols;
    s.forward = share_of(w.forward, tp);
  }
  return s;
}

std::vector<std::vector<int64_t>> cut_rows(const Table& table, const Slicing& slicing, bool muon) {
  std::map<std::vector<int>, std::vector<size_t>> shared;  // weights by who holds them
  for (size_t w = 0; w < table.size(); ++w) shared[slicing.holders(table[w])].push_back(w);
  std::vector<std::vector<int64_t>> borders(table.size());
  for (const auto& [ranks, weights] : shared) {
    std::vector<const Weight*> of;
    for (const size_t w : weights) of.push_back(&table[w]);
    const std::vector<Cut> cuts = even_cuts(of, static_cast<int>(ranks.size()), muon);
    for (size_t w = 0; w < weights.size(); ++w) {
      size_t before = 0;  // holders below the rank
      for (int r = 0; r <= slicing.ranks(); ++r) {
        while (before < ranks.size() && ranks[before] < r) ++before;
        const Cut& c = cuts[before];
        borders[weights[w]].push_back(c.weight < w ? 0 : c.weight > w ? all_rows(*of[w]) : c.row);
      }
    }
  }
  return borders;
}

}  // namespace llmctl
