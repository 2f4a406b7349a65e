// SPDX-License-Identifier: Apache-2.0
#include "core/nn/bundle_store.h"

#include <exception>

#include "kernels/basic.h"

namespace llmctl {

// A pass that failed here leaves peers behind that would wait for it, and for whom the queue would wait.
BundleStore::~BundleStore() {
  if (queue_ && std::uncaught_exceptions() > 0) sharding_.comm->abandon("its pass failed");
}

void BundleStore::fetch(Comm& comm, int bundle) const {
  for (const Bundle::Rows& r : bundles_[static_cast<size_t>(bundle)].rows)
    comm.all_gather(r.mine, r.whole, r.offsets, r.name);
}

void BundleStore::gather(int bundle, const kn::Exec& exec) {
  if (exec.plan) return pass_.push_back({false, bundle});
  if (!sharding_.weights()) return;
  if (!queue_) {
    beside_ = sharding_.comm->split(0, sharding_.rank, "weights");
    queue_ = std::make_unique<CommQueue>(*beside_);
  }
  if (coming_ != bundle) ticket_ = queue_->post([this, bundle](Comm& comm) { fetch(comm, bundle); });
  queue_->wait(ticket_);
  if (last_ >= 0) followed_[{before_, last_}] = bundle;
  before_ = last_, last_ = bundle;
  coming_ = -1;
  const auto next = followed_.find({before_, last_});
  if (next == followed_.end()) return;
  const int ahead = next->second;
  if (bundles_[static_cast<size_t>(ahead)].slot == bundles_[static_cast<size_t>(bundle)].slot) return;
  coming_ = ahead;
  ticket_ = queue_->post([this, ahead](Comm& comm) { fetch(comm, ahead); });
}

void BundleStore::reduce(int bundle, const kn::Exec& exec) {
  if (exec.plan) return pass_.push_back({true, bundle});
  const Bundle& b = bundles_[static_cast<size_t>(bundle)];
  sharding_.comm->reduce_scatter(b.gradients, b.offsets, "gradients");
  for (const Bundle::Sum& s : b.sums) kn::run(kn::AddWhole{.x = s.from, .y = s.to}, exec);
  kn::run(kn::Clear{.x = View(b.gradients.data(), kn::DType::i64, {static_cast<int64_t>(b.gradients.size())})}, exec);
}

void BundleStore::forget() {
  if (queue_) queue_->wait(ticket_);
  coming_ = -1;
}

void BundleStore::idle_pass(const kn::Exec& exec) {
  for (const Call& c : pass_) c.reduces ? reduce(c.bundle, exec) : gather(c.bundle, exec);
}

}  // namespace llmctl
