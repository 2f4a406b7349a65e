// SPDX-License-Identifier: Apache-2.0
#include "core/nn/bundle_store.h"

#include <exception>

namespace llmctl {

// A pass that failed here leaves peers behind that would wait for it, and for whom the queue would wait.
BundleStore::~BundleStore() {
  if (queue_ && std::uncaught_exceptions() > 0) sharding_.comm->abandon("its pass failed");
}

// Groups are made by all ranks at once: in a pipeline the first calls come at different times.
void BundleStore::connect() {
  if (stage_) return;
  const int stage = sharding_.at(Axis::pp);
  stage_ = sharding_.comm->split(stage, sharding_.rank, "stage");
  if (!sharding_.weights()) return;
  beside_ = sharding_.comm->split(stage, sharding_.rank, "weights");
  queue_ = std::make_unique<CommQueue>(*beside_);
}

void BundleStore::fetch(int bundle) {
  const Bundle& b = bundles_[static_cast<size_t>(bundle)];
  Slot& slot = slots_[static_cast<size_t>(b.slot)];
  if (slot.bundle == bundle) return;
  slot.bundle = bundle;
  slot.ticket = queue_->post(b.fetch);
}

void BundleStore::gather(int bundle, const kn::Exec& exec) {
  const Bundle& b = bundles_[static_cast<size_t>(bundle)];
  if (exec.plan) return parts_[planned_].push_back({false, bundle});
  if (!b.fetch) return;
  fetch(bundle);
  queue_->wait(slots_[static_cast<size_t>(b.slot)].ticket);
  if (last_ >= 0) followed_[{before_, last_}] = bundle;
  before_ = last_, last_ = bundle;
  const auto next = followed_.find({before_, last_});
  if (next != followed_.end() && bundles_[static_cast<size_t>(next->second)].slot != b.slot) fetch(next->second);
}

void BundleStore::reduce(int bundle, const kn::Exec& exec) {
  if (exec.plan) return parts_[planned_].push_back({true, bundle});
  if (const auto& reduce = bundles_[static_cast<size_t>(bundle)].reduce) reduce(*stage_, exec);
}

void BundleStore::forget() {
  connect();
  for (Slot& s : slots_) {
    if (s.bundle >= 0) queue_->wait(s.ticket);
    s.bundle = -1;
  }
}

void BundleStore::plan_part(int part) {
  planned_ = part;
  parts_[part].clear();
}

void BundleStore::idle(int part, const kn::Exec& exec) {
  for (const Call& c : parts_.at(part)) c.reduces ? reduce(c.bundle, exec) : gather(c.bundle, exec);
}

}  // namespace llmctl
