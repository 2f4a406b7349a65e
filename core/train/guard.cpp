// SPDX-License-Identifier: Apache-2.0
#include "core/train/guard.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace llmctl {
namespace {

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace

void Guard::restore(const Json& known) {
  losses_.clear();
  for (const Json& loss : known.at("losses")) taken(loss.get<double>());
  skipped_ = skipped_steps(known);
}

Json Guard::skipped_json() const {
  Json list = Json::array();
  for (const SkippedStep& s : skipped_)
    list.push_back({{"step", s.step}, {"reason", s.reason}, {"batch", s.batch}});
  return list;
}

const SkippedStep* Guard::skipped(int64_t step) const {
  for (const SkippedStep& s : skipped_)
    if (s.step == step) return &s;
  return nullptr;
}

std::string Guard::objection(const StepResult& r) const {
  if (!r.fault.empty()) return r.fault;
  if (config_.spike == 0 || losses_.size() < static_cast<size_t>(config_.window)) return "";
  const double median = median_of({losses_.begin(), losses_.end()});
  if (r.loss <= config_.spike * median) return "";
  return fmt::format("the loss {:.4f} is more than {} times {:.4f}, the median of the last {}", r.loss,
                     config_.spike, median, config_.window);
}

void Guard::taken(double loss) {
  losses_.push_back(loss);
  if (losses_.size() > static_cast<size_t>(config_.window)) losses_.pop_front();
}

void Guard::skip(const SkippedStep& step) {
  check(skipped_.size() < static_cast<size_t>(config_.max_skips), Code::input, "[guard] step ", step.step,
        ": ", step.reason, "; the run gave up: ", skipped_.size(),
        " steps are skipped already (guard.max_skips)");
  skipped_.push_back(step);
}

std::vector<SkippedStep> skipped_steps(const Json& run_json) {
  std::vector<SkippedStep> steps;
  if (!run_json.is_object() || !run_json.contains("skipped")) return steps;
  const auto is = [](const Json& s, const char* key, auto kind) {
    return s.contains(key) && (s[key].*kind)();
  };
  const Json& list = run_json["skipped"];
  check(list.is_array(), Code::input, "[guard] run.json: skipped is not a list");
  for (const Json& s : list) {
    check(s.is_object() && is(s, "step", &Json::is_number_integer) && is(s, "reason", &Json::is_string) &&
              is(s, "batch", &Json::is_string),
          Code::input, "[guard] run.json: skipped needs step, reason and batch");
    steps.push_back(
        {s["step"].get<int64_t>(), s["reason"].get<std::string>(), s["batch"].get<std::string>()});
  }
  return steps;
}

std::string difference_of(const std::vector<Evidence>& first, const std::vector<Evidence>& second) {
  std::map<std::string, Digest> known;
  for (const Evidence& e : second) known[e.what] = e.digest;
  for (const Evidence& e : first) {
    const auto again = known.find(e.what);
    if (again != known.end() && !(again->second == e.digest))
      return fmt::format("{} was {}, then {}", e.what, e.digest.hex(), again->second.hex());
  }
  return "";
}

}  // namespace llmctl
