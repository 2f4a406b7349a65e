// SPDX-License-Identifier: Apache-2.0
// Weights and gradients that are spread over ranks (ZeRO 2 and 3, core/nn/sharding.h), brought together
// where a pass needs them. What comes and goes at once is a bundle: the embeddings, a block, the final
// norm with the head. Calls are collective among the ranks that hold the same layers: all of these run the
// same passes in the same order, which is what a pass is recorded for when it is planned - a rank that has no
// unit left goes through it idly.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>

#include "core/base/comm_queue.h"
#include "core/nn/sharding.h"
#include "kernels/exec.h"

namespace llmctl {

struct Bundle {
  std::function<void(Comm&)> fetch;  // its weights into its memory; none: they are here always
  std::function<void(Comm&, const kn::Exec&)> reduce;  // its gradients; none: they stay until the step's end
  int slot = 0;  // of two; bundles of one slot share memory
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
  // The weights change: what was fetched is of no use. Before the first pass, and collective among all ranks then.
  void forget();
  // Planning, a part of a pass begins: by its number.
  void plan_part(int part);
  // Takes part in one without computing.
  void idle(int part, const kn::Exec& exec);

 private:
  struct Call {
    bool reduces;
    int bundle;
  };
  void connect();
  void fetch(int bundle);
  const Sharding sharding_;
  std::vector<Bundle> bundles_;
  std::map<int, std::vector<Call>> parts_;  // as planned
  int planned_ = 0;
  std::map<std::pair<int, int>, int> followed_;  // by the last two bundles, the next
  int before_ = -1, last_ = -1;
  struct Slot {
    int bundle = -1;  // that is there, or on its way
    CommQueue::Ticket ticket = 0;
  };
  std::array<Slot, 2> slots_;
  std::unique_ptr<Comm> stage_, beside_;  // the ranks with the same layers; before the queue that uses it
  std::unique_ptr<CommQueue> queue_;
};

}  // namespace llmctl
