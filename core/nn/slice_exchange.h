// SPDX-License-Identifier: Apache-2.0
// Between the slices that ranks compute with (slices.h) and the rows whose state they own (sharding.h):
// gradients go to the owners of their rows, which sum them; new weights come back, rounded to the compute
// dtype before they travel. In rounds of bounded size, so that what passes through memory is bounded.
// Bytes move and integers add up: no layout changes a bit. What one rank has nothing of for another is no
// message.
#pragma once

#include <functional>

#include "core/nn/slices.h"
#include "kernels/exec.h"

namespace llmctl {

struct WeightState;

class SliceExchange {
  // Rows of a weight; a round is either some whole weights or rows of one.
  struct Rows {
    size_t weight;
    RowRange rows;
  };
  struct Round {
    std::vector<Rows> of;
    bool last = true;  // of a weight's rounds
  };

 public:
  // How some weights pass, the same on all ranks, and the memory that this takes here.
  struct Rounds {
    std::vector<Round> of;
    int64_t gradient_bytes = 0, weight_bytes = 0;
  };
  // Ranks [first, first + count) of all, which hold and own the weights of a call: comm's, in their order.
  struct Peers {
    Comm* comm = nullptr;
    int first = 0, count = 1;
  };

  SliceExchange(const Slicing& slicing, const Sharding& sharding, DType compute, const std::vector<WeightState>& weights);
  Rounds rounds_of(const std::vector<WeightState>& weights, const std::vector<size_t>& which) const;
  // Adds the slices' gradients to their owners' sums. Collective.
  void sum_gradients(const Rounds& rounds, const Peers& peers, std::vector<WeightState>& weights, const View& memory,
                     const kn::Exec& exec, CommLabel label) const;
  // From each owner's rows to every rank's slice. Of weights that come and go (WeightState::comes) into `whole`; of
  // others from the masters, and done(w, slice) is called with (rows, cols) in the compute dtype once it is there,
  // in memory that lasts until it returns. Collective.
  using Done = std::function<void(WeightState&, const View& slice)>;
  void spread_weights(const Rounds& rounds, const Peers& peers, std::vector<WeightState>& weights, const View& memory,
                      const kn::Exec& exec, const Done& done) const;

 private:
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
  void measure(const Round& round, const std::vector<WeightState>& weights, Rounds& rounds) const;
  void pack(const Round& round, const Peers& peers, const std::vector<WeightState>& weights, const View& rounded,
            std::vector<std::byte*> to, const kn::Exec& exec) const;

  int rank_, ranks_;
  DType compute_;
  std::vector<std::vector<int64_t>> borders_;  // by weight
  std::vector<int64_t> cols_;
  std::vector<std::vector<Slice>> slices_;     // by weight, then rank
};

}  // namespace llmctl
