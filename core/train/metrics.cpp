// SPDX-License-Identifier: Apache-2.0
#include "core/train/metrics.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace llmctl {

Json metrics_line(const StepResult& r) {
  if (!r.skipped.empty())
    return {{"step", r.step}, {"skipped", r.skipped}, {"targets", r.targets}, {"digest", {{"batch", r.batch.hex()}}}};
  Json tensors = Json::array();
  for (const TensorDigest& t : r.tensors) {
    Digest d = t.gradient;
    d += t.weights;
    tensors.push_back(d.hex());
  }
  Json line = {{"step", r.step},
               {"loss", r.loss},
               {"learning_rate", r.learning_rate},
               {"grad_norm", r.grad_norm},
               {"targets", r.targets}};
  if (r.router.balance > 0) {
    line["router_aux_loss"] = r.router.balance;
    line["router_z_loss"] = r.router.z;
  }
  Json digest = {{"batch", r.batch.hex()}};
  if (!r.tensors.empty()) {
    digest["gradient"] = r.gradient.hex();
    digest["weights"] = r.weights.hex();
  }
  line["digest"] = digest;
  if (!r.tensors.empty()) line["tensors"] = tensors;
  return line;
}

std::string metrics_before(const fs::path& file, int64_t step) {
  std::ifstream in(file);
  std::string kept, line;
  while (std::getline(in, line)) {
    const Json json = Json::parse(line, nullptr, false);
    if (json.is_object() && json.contains("step") && json["step"].is_number_integer() &&
        json["step"].get<int64_t>() < step)
      kept += line + "\n";
  }
  return kept;
}

std::vector<double> last_losses(const std::string& metrics, int64_t count) {
  std::vector<double> losses;
  std::istringstream in(metrics);
  for (std::string line; std::getline(in, line);) {
    const Json json = Json::parse(line, nullptr, false);
    if (json.is_object() && json.contains("loss") && json["loss"].is_number()) losses.push_back(json["loss"].get<double>());
  }
  const auto n = static_cast<int64_t>(losses.size());
  losses.erase(losses.begin(), losses.begin() + std::max<int64_t>(0, n - count));
  return losses;
}

}  // namespace llmctl
