// SPDX-License-Identifier: Apache-2.0
// What a run does about a step whose loss or gradient is not finite, or whose loss jumps (config `guard`):
// stops, skips the step's update (its batch is used up), or goes back to the last checkpoint and skips it on
// the way. The steps skipped are in run.json's "skipped", [{step, reason, batch}], and nowhere else: who
// resumes or reproduces the run skips these, so a run with them has one digest however often it was
// disturbed. Decisions are made from what all ranks know alike.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/train/trainer.h"

namespace llmctl {

struct SkippedStep {
  int64_t step = 0;
  std::string reason, batch;  // batch: its digest
};

class Guard {
 public:
  explicit Guard(const GuardConfig& config) : config_(config) {}
  // As {"losses": the last of steps that were taken, oldest first; "skipped": as in run.json}.
  void restore(const Json& known);
  Json skipped_json() const;
  // Null when the step is to be taken.
  const SkippedStep* skipped(int64_t step) const;
  // Why a step's gradients should not be used: "" when nothing is wrong. A loss is compared with the median
  // of `window` before it, once there are so many.
  std::string objection(const StepResult& r) const;
  void taken(double loss);
  // Error{input} when max_skips steps are skipped already.
  void skip(const SkippedStep& step);

 private:
  const GuardConfig& config_;
  std::deque<double> losses_;
  std::vector<SkippedStep> skipped_;
};

// run.json's list. Error{input} when it is malformed.
std::vector<SkippedStep> skipped_steps(const Json& run_json);

// What two runs of one step differ in first, "" when they are the same: then data or model make the step
// what it is, else the machine. What only one of them has is not compared.
std::string difference_of(const std::vector<Evidence>& first, const std::vector<Evidence>& second);

}  // namespace llmctl
