// SPDX-License-Identifier: Apache-2.0
// What a layer needs besides its arguments: where to run, scratch, and (backward only) how the rows
// fall into gradient parts. Passed by reference, never global.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "core/base/mesh.h"
#include "core/tensor/arena.h"
#include "kernels/attention.h"

namespace llmctl {

// Elements of a (T) vector; an empty view stays empty.
inline View elements_of(const View& v, const RowRange& r) {
  return v ? reshaped(rows_of(reshaped(v, {v.size(), 1}), r.begin, r.count), {r.count}) : View{};
}

// What ranks send of a view.
inline std::span<std::byte> memory_of(const View& v) { return {v.as<std::byte>(), static_cast<size_t>(v.bytes())}; }

class BundleStore;
struct ChunkedBatch;
struct WeightState;
// Sees the input (T, in) of every product with a weight, in the order of the forward pass.
using LinearObserver = std::function<void(const WeightState& weight, const View& x)>;

struct Ctx {
  const kn::Exec& exec;
  Arena& arena;
  RankGroup tensor = {};    // with slices of the same layers (tensor parallel)
  // Sequence parallel (Korthikanti et al. 2022): of the pass's rows the residual stream and its norms have
  // these here, others at the other tensor-parallel ranks; whole parts, as many each. count 0: all rows here.
  RowRange share = {};
  int64_t stream_rows(int64_t tokens) const { return share.count > 0 ? share.count : tokens; }
  RankGroup context = {};   // with chunks of the same sequences (context parallel: core/nn/chunks.h)
  RankGroup pipeline = {};  // with other layers
  RankGroup experts = {};   // with other experts of the same layers (expert parallel: core/nn/expert_rows.h)
  double* expert_load = nullptr;  // of those: set to the first share of rows that there was no room for
  Arena* keep = nullptr;    // where what backward needs lies, if not in arena
  Arena& kept() const { return keep ? *keep : arena; }
  // Gradients of weights that a pipeline wants later than those of activations: what they are of lies in
  // lasting() and must not be overwritten.
  std::vector<std::function<void(Ctx&)>>* later = nullptr;
  Arena& lasting() const { return later ? kept() : arena; }
  // Backward: every range is one part (NUMERICS: one unit's rows, or of one chunk of it); bf16 pairs restart
  // every `seq` rows; `parts_in_step` bounds the fixed-point range.
  std::vector<RowRange> parts = {};
  std::vector<RowRange> stream_parts() const;  // those of the residual stream here, within its rows
  int64_t seq = 0;
  int64_t parts_in_step = 1;
  int64_t part_tokens = 0;  // of a whole part
  // A mixture of experts: consecutive parts that are one part of an expert's weights; and for its losses
  // by unit, which has parts_per_unit parts here, what RouterStats counted, (units, 2E + 1) i64, and the
  // weight of a unit's mean loss in the sum that backward carries. Empty: no such losses.
  int64_t parts_per_expert_part = 1, parts_per_unit = 1;
  View router_stats = {};
  std::vector<double> unit_weight = {};
  // The only part comes in pieces of whole sequences: this one goes on where the last one paused, or
  // leaves its sums in WeightState::chain for the next.
  bool resume = false, pause = false;
  const LinearObserver* observe = nullptr;  // calibration of quantisation
  BundleStore* store = nullptr;             // of weights or gradients that are spread over ranks
  // Where a weight's panels are packed on use when they fit: one place for all stays in the caches.
  // Of one product at a time.
  View panels = {};

  template <class Op>
  void run(const Op& op) const {
    kn::run(op, exec);
  }
};

inline std::vector<RowRange> Ctx::stream_parts() const {
  if (share.count == 0) return parts;
  std::vector<RowRange> here;
  for (const RowRange& p : parts)
    if (p.begin >= share.begin && p.begin < share.begin + share.count) here.push_back({p.begin - share.begin, p.count});
  return here;
}

// A run of whole sequences whose pages fit the page budget of one attention call.
struct AttentionGroup {
  RowRange rows, sequences;
};

// Tokens of one forward pass, all on ctx.exec's device. Rows of several sequences stand one after
// another.
struct TokenBatch {
  int64_t tokens = 0;
  View ids;         // (T) i32
  View positions;   // (T) i32, from the document's start
  View slots;       // (T) i64, page * 32 + offset
  View sequences;   // (S,4) i32, see kernels/attention.h
  View page_table;  // (P) i32
  std::vector<AttentionGroup> groups;
  // The cache of layer l; null in training, where each group's pages live only for its call.
  const std::vector<kn::KvPages>* cache = nullptr;
  int64_t pages = 0;  // without a cache: page budget of one group
  // Sequences in chunks, or null. With it slots and the rows of groups are of all tokens in order, and
  // sequences are documents' parts within chunks.
  const ChunkedBatch* chunks = nullptr;
};

}  // namespace llmctl
