// SPDX-License-Identifier: Apache-2.0
// What is wrong with a step, on all ranks, and what a second run of it is compared with (guard.h).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/train/trainer.h"

namespace llmctl {

std::string Trainer::fault_here(const RowRange& units, const std::vector<UnitLoss>& losses) const {
  for (size_t i = 0; i < losses.size(); ++i)
    if (!std::isfinite(losses[i].loss))
      return fmt::format("the loss of unit {} is not finite", units.begin + static_cast<int64_t>(i) / chunks().own());
  return optimizer_->overflowed(exec_);
}

std::string Trainer::join_fault(const std::string& mine, int64_t step) const {
  if (!sharding_.shared()) return mine;
  Comm& comm = *sharding_.comm;
  const CommLabel label("faults", step);
  if (all_reduce_one(comm, !mine.empty(), CommOp::max, label) == 0) return "";
  const std::vector<std::string> all = all_gather_text(comm, mine, label);
  const auto first = std::find_if(all.begin(), all.end(), [](const std::string& text) { return !text.empty(); });
  return fmt::format("{} (rank {})", *first, first - all.begin());
}

StepResult Trainer::look(const BatchSource& source, int64_t step) {
  StepResult r;
  r.step = step;
  const RowRange units = own_units();
  all(CommLabel("units", step), [&] {
    Batch b;
    for (int64_t u = units.begin; u < units.begin + units.count; ++u)
      read(source, step, u, b, r);
  });
  std::vector<UnitLoss> none;
  join(units, r, none);
  return r;
}

std::vector<Evidence> Trainer::evidence() const {
  std::vector<Evidence> found;
  for (size_t i = 0; i < own_losses_.size(); ++i) {
    const double loss = own_losses_[i].loss;  // one NaN is as good as another
    const Digest d = std::isnan(loss) ? Digest{} : digest_of(&loss, sizeof loss);
    found.push_back({fmt::format("the loss of unit {}", own_units().begin + static_cast<int64_t>(i) / chunks().own()), d});
  }
  const std::vector<int32_t> raised = fetched<int32_t>(exec_, model_->parameters().overflows());
  size_t flag = 0;
  for (const WeightState& w : model_->parameters().all()) {
    const std::string& name = w.spec.params[0].name;
    found.push_back({"the overflow flag of " + name, digest_of(&raised[flag++], 4)});
    const bool sums = w.in_bundle || reduced_;
    const View& v = sums ? w.sum : w.grad;
    std::vector<std::byte> host;
    if (exec_.device.kind != kn::DeviceKind::cpu) host = fetched<std::byte>(exec_, v);
    found.push_back({(sums && sharding_.shared() ? "the sum over ranks of the gradient of " : "the gradient of ") + name,
                     digest_of(host.empty() ? v.data : host.data(), static_cast<uint64_t>(v.bytes()))});
  }
  return found;
}

}  // namespace llmctl
