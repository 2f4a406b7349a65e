// SPDX-License-Identifier: Apache-2.0
// Where the memory of a training step goes, before it is asked for. Nothing planned is mapped.
//
// On one device the plan is the trainer's own dry run plus what the process holds beside it. For a
// layout over many devices it comes from the same parameter table: each parameter divides by the
// dimension the table declares for tensor parallelism (tp), layers by pipeline stages (pp), and
// over data-parallel ranks (dp) ZeRO divides masters and moments (1), gradients (2) and the compute
// copy (3) (Rajbhandari et al. 2020). Activations are dry runs of one and of two blocks at a rank's
// shape: their difference is a block. Units in flight follow the 1F1B order: stage s holds
// min(pp - s, units of a rank).
#pragma once

#include <string>
#include <vector>

#include "core/train/trainer.h"

namespace llmctl {

struct Layout {
  int64_t tp = 1, pp = 1, dp = 1;
  int zero = 1;
  int64_t devices() const { return tp * pp * dp; }
};

struct LayoutPlan {
  Layout layout;
  int64_t stage = 0;              // the pipeline stage that needs most
  std::vector<MemoryLine> lines;  // of one device of that stage
  int64_t bytes = 0;              // their sum
};

int64_t total_bytes(const std::vector<MemoryLine>& lines);

// A run on this machine: the process as it stands now and its stacks, the trainer's arenas, the validation pass when
// the config has one, and the buffer through which a checkpoint is written.
std::vector<MemoryLine> plan_here(const TrainConfig& config, const ModelSpec& spec, const kn::Exec& exec,
                                  const Sharding& sharding = {});

// Empty, or why the layout cannot run this model (NUMERICS rule 3: tp divides the leaves and every
// leaf holds a multiple of 32 columns).
std::string why_not(const ModelSpec& spec, const TrainConfig& config, const Layout& layout);
// Error{unsupported} with why_not's text.
LayoutPlan plan_layout(const TrainConfig& config, const ModelSpec& spec, const Layout& layout, const kn::Exec& exec);
// Every layout of so many devices with powers of two for tp (up to 8) and pp, and zero 1 to 3, that
// can run the model; the smallest first. Fields of `wanted` other than 0 (zero: -1) are kept.
std::vector<LayoutPlan> plan_layouts(const TrainConfig& config, const ModelSpec& spec, int64_t devices,
                                     const Layout& wanted, const kn::Exec& exec);

}  // namespace llmctl
