// SPDX-License-Identifier: Apache-2.0
// Where the memory of a training step goes, before it is asked for. Nothing planned is mapped.
//
// On one device the plan is the trainer's own dry run plus what the process holds beside it. For a
// layout over many devices it comes from the same parameter table: each parameter divides by the
// dimension the table declares for tensor parallelism (tp), layers by pipeline stages (pp), experts by
// expert-parallel ranks (ep), and over the ranks that share a weight (dp, cp and, but for experts, ep)
// ZeRO divides masters and moments (1), gradients (2) and the compute copy (3) (Rajbhandari et al.
// 2020). Activations are dry runs of one and of two blocks at a rank's shape: their difference is a
// block. Units in flight are those of the pipeline schedule (core/train/pipeline.h).
#pragma once

#include <string>
#include <vector>

#include "core/train/trainer.h"

namespace llmctl {

struct Layout {
  int64_t tp = 1, pp = 1, dp = 1;
  int zero = 1;
  int64_t cp = 1, ep = 1;
  std::string schedule = "1f1b";  // of pp above 1
  int64_t chunks = 1;             // of a pipeline rank
  std::string recompute = "";     // empty: the config's
  int64_t devices() const { return tp * pp * dp * cp * ep; }
  int64_t replicas() const { return dp * ep; }  // ranks with different units
};

struct LayoutPlan {
  Layout layout;
  int64_t stage = 0;              // the pipeline rank that needs most
  std::vector<MemoryLine> lines;  // of one device of it
  int64_t bytes = 0;              // their sum
};

// What a pipeline rank holds at most, in units of one chunk: PipeTimes::alive_of_rank without a simulation.
int64_t chunks_in_flight(const Layout& layout, int64_t rank, int64_t units);

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
// Every layout of so many devices that can run the model, the smallest first: powers of two for tp (up to 8), cp, ep and
// pp, zero 1 to 3, and each schedule. Fields of `wanted` other than 0 (zero: -1; texts: empty) are kept; cp is searched
// from 0 where rows are long, recompute when it is "any".
std::vector<LayoutPlan> plan_layouts(const TrainConfig& config, const ModelSpec& spec, int64_t devices,
                                     const Layout& wanted, const kn::Exec& exec);
// No field decided.
inline Layout any_layout() { return {0, 0, 0, -1, 0, 0, "", 0, ""}; }

}  // namespace llmctl
