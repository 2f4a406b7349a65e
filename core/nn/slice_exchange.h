// SPDX-License-Identifier: Apache-2.0
// Between the slices that ranks compute with (slices.h) and the rows whose state they own (sharding.h):
// gradients go to the owners of their rows, which sum them; new weights come back, rounded to the compute
// dtype before they travel. In rounds of bounded size, so that what passes through memory is bounded.
// Bytes move and integers add up: no layout changes a bit.
#pragma once

#include <functional>

#include "core/nn/slices.h"
#include "kernels/exec.h"

namespace llmctl {

struct WeightState;

class SliceExchange {
 public:
  SliceExchange(const Table& table, const Sharding& sharding, DType compute, const std::vector<WeightState>& weights);
  // Of the memory that calls pass through.
  int64_t bytes() const { return most_; }
  // Adds the slices' gradients to their owners' sums. Collective.
  void sum_gradients(std::vector<WeightState>& weights, const View& memory, const kn::Exec& exec, CommLabel label) const;
  // From each owner's master rows to every rank's slice; whole(w, slice) is called with (rows, cols) in
  // the compute dtype once it is there, in memory that lasts until it returns. Collective.
  void spread_weights(std::vector<WeightState>& weights, const View& memory, const kn::Exec& exec,
                      const std::function<void(WeightState&, const View& slice)>& whole) const;

 private:
  // Rows of a weight; a round is either some whole weights or rows of one.
  struct Rows {
    size_t weight;
    RowRange rows;
  };
  struct Round {
    std::vector<Rows> of;
    bool last = true;  // of a weight's rounds
  };
  // Rows that lie in a holder's slice (from slice_row on) and with an owner.
  struct Piece {
    size_t weight;
    const Slice* slice;
    int64_t slice_row;
    RowRange rows;  // of the whole
    int64_t elements() const { return rows.count * slice->cols; }
  };
  template <class Visit>
  void each_piece(const Round& round, int holder, int owner, Visit&& visit) const;
  int64_t elements(const Round& round, int holder, int owner, bool counting) const;
  int64_t memory_of(const Round& round) const;
  void cut_rounds(const std::vector<WeightState>& weights);

  Sharding sharding_;
  DType compute_;
  std::vector<std::vector<int64_t>> borders_;   // by weight
  std::vector<int64_t> cols_;
  std::vector<std::vector<Slice>> slices_;      // by weight, then rank
  std::vector<Round> rounds_;
  int64_t most_ = 0;
};

}  // namespace llmctl
