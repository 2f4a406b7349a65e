// SPDX-License-Identifier: Apache-2.0
#include "core/nn/sharding.h"

#include <algorithm>

#include "kernels/optimizer.h"

namespace llmctl {
namespace {

struct Cut {
  size_t weight;
  int64_t row;       // the first that belongs to the next rank
  int64_t elements;  // before it, of the whole table
};

// Every place where the table may be cut, in order, its two ends among them.
std::vector<Cut> places(const Table& table, bool muon) {
  std::vector<Cut> found;
  int64_t elements = 0;
  for (size_t w = 0; w < table.size(); ++w) {
    const bool whole = table[w].role == Role::vector || (muon && table[w].hidden());
    int64_t row = 0;
    for (const Param& p : table[w].params) {
      for (int64_t r = 0; r < p.rows; r += whole ? p.rows : kn::kTileRows) {
        const bool inside = row + r > 0;
        if (!inside || table[w].role != Role::vector) found.push_back({w, row + r, elements + r * p.cols});
      }
      row += p.rows;
      elements += p.rows * p.cols;
    }
  }
  found.push_back({table.size(), 0, elements});
  return found;
}

}  // namespace

MeshShape Sharding::shape() const {
  MeshShape s = axes;
  s.dp = 1;
  s.dp = ranks / s.ranks();
  return s;
}

std::vector<std::vector<int64_t>> cut_rows(const Table& table, int ranks, bool muon) {
  const std::vector<Cut> cuts = places(table, muon);
  const int64_t total = cuts.back().elements;
  std::vector<Cut> chosen{cuts.front()};
  for (int r = 1; r < ranks; ++r) {
    const int64_t want = total / ranks * r + total % ranks * r / ranks;
    auto at = std::lower_bound(cuts.begin(), cuts.end(), want, [](const Cut& c, int64_t n) { return c.elements < n; });
    if (at != cuts.begin() && want - std::prev(at)->elements < at->elements - want) --at;
    chosen.push_back(*at);
  }
  chosen.push_back(cuts.back());
  std::vector<std::vector<int64_t>> borders(table.size());
  for (size_t w = 0; w < table.size(); ++w)
    for (const Cut& c : chosen) {
      const int64_t all = table[w].padded_rows ? table[w].padded_rows : table[w].rows();
      borders[w].push_back(c.weight < w ? 0 : c.weight > w ? all : c.row);
    }
  return borders;
}

}  // namespace llmctl
