// SPDX-License-Identifier: Apache-2.0
// Layouts of a run on devices of one kind, by how long a step takes: memory (plan.h) and time (step_time.h) together,
// and what follows from them.
#pragma once

#include "parallel/plan.h"
#include "parallel/step_time.h"

namespace llmctl {

struct Prediction {
  LayoutPlan memory;
  bool fits = true;
  StepTime time;
  double seconds = 0;          // of a step
  double model_flops = 0;      // of a step, all devices (training_flops_per_token)
  double tokens = 0;           // of a step
  double flops_per_device = 0;  // per second, of the model
  double mfu = 0, hfu = 0;     // shares of the peak: the model's FLOPs, and those done
  double bubble = 0;           // share of the step
  double tokens_per_day = 0;
  double joules_per_token = 0, price_per_token = 0;
  std::string limit;           // what takes longest, or "memory" when it does not fit
};

// The step of a layout as numbers.
StepShape step_shape(const TrainConfig& config, const ModelSpec& spec, const Layout& layout);
// fits: memory.bytes within nine tenths of the device's, the rest being the driver's and the libraries'.
Prediction predict(const TrainConfig& config, const ModelSpec& spec, const Table& table, LayoutPlan memory,
                   const Hardware& hardware);
// plan_layouts with their times: those that fit first, the quickest first; of layouts that give ranks to the same axes
// (tp, pp, dp, cp, ep) the best alone.
std::vector<Prediction> search_layouts(const TrainConfig& config, const ModelSpec& spec, int64_t devices,
                                       const Layout& wanted, const Hardware& hardware, const kn::Exec& exec);

}  // namespace llmctl
