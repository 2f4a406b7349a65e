// SPDX-License-Identifier: Apache-2.0
// How long a training step takes on many devices, before one is asked for.
//
// A step's time is added up from what a device does: products at a share of the peak, and the memory traffic of their
// operands; attention; what streams through memory; exchanges between ranks at a share of the links' rates, less what
// is hidden behind work; the pipeline's bubble; the optimiser. The shares are constants fitted to published training
// points and judged on models left out of the fit: tests/bench/planner_fit.py, which holds the same model in Python
// (tests/parallel holds the two together) and prints the errors.
//
// FLOPs: a model's are 6 per weight that a token meets (of experts, the chosen ones) and 6 L width s for causal
// attention, per token (training_flops_per_token); recompute does not count. The hardware's count what is done:
// recompute, and attention that is not halved where it is not fused.
#pragma once

#include <string>

#include "parallel/hardware.h"

namespace llmctl {

// What software on a device does well. The default: this program's.
struct Stack {
  bool fused_attention = true;   // scores never leave the chip, and the causal half is left out
  bool recent_attention = true;  // kernels of 2024 and later
  bool overlap = true;           // exchanges run beside work
  bool sequence_parallel = true;  // tensor-parallel ranks share out what is between the products, too
  bool slow_gather = false;      // ZeRO-3 as it was in 2021
  double gradient_bytes = 8;     // of an element that travels: 64-bit fixed point
  double exchange_bytes = 4;     // of an element of tensor-parallel sums: fp32 (NUMERICS rule 4)
  double speed = 1;              // kOldStack, kTunedStack
};
constexpr double kOldStack = 0.8092;    // Megatron-DeepSpeed of 2021
constexpr double kTunedStack = 1.175;   // one model or one machine, tuned by hand

enum class Recomputed : uint8_t { none, attention, all };

// A model and a layout as numbers. Widths are of the whole model.
struct StepShape {
  double layers = 0, hidden = 0, attention = 0, kv = 0, heads = 0, ffn = 0, vocab = 0;
  bool gated = true;
  double experts = 0, per_token = 0, expert_width = 0, shared_width = 0, expert_layers = 0;  // 0: none
  double seq = 0, sequences = 1;  // of a unit
  double units = 1;               // of a replica
  double tp = 1, pp = 1, cp = 1, ep = 1;
  double dp = 1;  // ranks with different units: data parallel times expert parallel
  double chunks = 1;
  std::string schedule = "1f1b";
  int zero = 1;
  Recomputed recompute = Recomputed::none;
  double devices() const { return tp * pp * cp * dp; }
};

// Of one device in one step, sent: bytes by what they are for.
struct Traffic {
  double tensor = 0, pipeline = 0, data = 0, context = 0, experts = 0;
  double total() const { return tensor + pipeline + data + context + experts; }
};

struct StepTime {
  // Seconds: `compute` is arithmetic at the shares of the peak, `memory` what streams beside it.
  double compute = 0, memory = 0, tensor = 0, context = 0, experts = 0, pipeline = 0, data = 0, bubble = 0, optimizer = 0;
  double hardware_flops = 0;  // of all devices
  Traffic traffic;
  double total() const { return compute + memory + network() + bubble + optimizer; }
  double network() const { return tensor + context + experts + pipeline + data; }
  // compute, memory bandwidth, network or bubble: whichever takes longest.
  std::string limit() const;
};

StepTime step_time(const StepShape& shape, const Hardware& hardware, const Stack& stack = {});

}  // namespace llmctl
