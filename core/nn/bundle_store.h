// SPDX-License-Identifier: Apache-2.0
// Weights and gradients that are spread over ranks (ZeRO 2 and 3, core/nn/sharding.h), brought together
// where a pass needs them. What comes and goes at once is a bundle: the embeddings, a block, the final
// norm with the head. Calls are collective: every rank runs the same passes, which is what a pass is
// recorded for when it is planned - a rank that has no unit left goes through it idly.
#pragma once

#include <map>
#include <memory>
#include <span>

#include "core/base/comm_queue.h"
#include "core/nn/sharding.h"
#include "kernels/exec.h"
#include "kernels/view.h"

namespace llmctl {

using kn::View;

struct Bundle {
  // Stage 3. Rows of the weights, each in memory of its own: the whole, and the part that is this rank's.
  struct Rows {
    std::span<std::byte> whole, mine;
    std::vector<int64_t> offsets;  // bytes by rank
    std::string_view name;
  };
  std::vector<Rows> rows;
  int slot = 0;  // bundles of one slot share memory
  // Gradients of a pass, one after another, and the sums that this rank keeps.
  std::span<int64_t> gradients;
  std::vector<int64_t> offsets;  // elements by rank
  struct Sum {
    View from, to;
  };
  std::vector<Sum> sums;
};

class BundleStore {
 public:
  explicit BundleStore(const Sharding& sharding) : sharding_(sharding) {}
  ~BundleStore();
  // By number, with its memory: after each placing.
  void set(std::vector<Bundle> bundles) { bundles_ = std::move(bundles); }
  // The bundle's weights are whole until the next call. What came next the last time is fetched beside
  // the computation, where it has memory of its own.
  void gather(int bundle, const kn::Exec& exec);
  // Adds the pass's gradients to their owners' sums and clears them for the next pass.
  void reduce(int bundle, const kn::Exec& exec);
  // The weights have changed: what was fetched ahead is of no use.
  void forget();
  // Takes part in a pass without computing one.
  void idle_pass(const kn::Exec& exec);

 private:
  struct Call {
    bool reduces;
    int bundle;
  };
  void fetch(Comm& comm, int bundle) const;
  const Sharding sharding_;
  std::vector<Bundle> bundles_;
  std::vector<Call> pass_;                       // as planned
  std::map<std::pair<int, int>, int> followed_;  // by the last two bundles, the next
  int before_ = -1, last_ = -1, coming_ = -1;
  CommQueue::Ticket ticket_ = 0;
  std::unique_ptr<Comm> beside_;  // before the queue that uses it
  std::unique_ptr<CommQueue> queue_;
};

}  // namespace llmctl
