// SPDX-License-Identifier: Apache-2.0
#include "parallel/step_time.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace llmctl {
namespace {

// Fitted by tests/bench/planner_fit.py, with Hardware::gemm and attention, kOldStack and kTunedStack.
constexpr double kGemmTraffic = 3.226;       // operands and result pass through memory so many times
constexpr double kRecentAttention = 2.506;   // how much faster attention's later kernels are
constexpr double kPointwiseBytes = 59.56;    // of an element of the residual stream, a block and pass
constexpr double kNodes = 0.009812;          // slower by this with each doubling of the nodes
constexpr double kTensorHidden = 0.6708;     // of tensor-parallel exchanges, where work overlaps them
constexpr double kSlowGather = 0.1213;
// Not fitted: collectives reach this share of a link; unfused attention's scores pass through memory as a product's
// result, in softmax, dropout and as an operand; the optimiser reads and writes masters, moments and gradients.
constexpr double kLink = 0.7, kScoreBytes = 13, kOptimizerBytes = 30;

// Seconds of arithmetic and of memory, and FLOPs done.
struct Work {
  double compute = 0, memory = 0, flops = 0;
  Work& operator+=(const Work& o) {
    compute += o.compute, memory += o.memory, flops += o.flops;
    return *this;
  }
  Work operator*(double n) const { return {compute * n, memory * n, flops * n}; }
  double seconds() const { return compute + memory; }
};

Work gemm(double m, double n, double k, const Hardware& h) {
  const double flops = 2 * m * n * k;
  return {flops / (h.flops * h.gemm), kGemmTraffic * 2 * (m * n + n * k + m * k) / h.memory_rate, flops};
}

double unit_tokens(const StepShape& s) { return s.sequences * s.seq / s.cp; }

Work mlp(const StepShape& s, double width, double tokens, const Hardware& h) {
  Work w = gemm(tokens, width / s.tp, s.hidden, h) * (s.gated ? 2 : 1);
  w += gemm(tokens, s.hidden, width / s.tp, h);
  return w;
}

// One block's products of one unit, forward; the average over layers with and without experts.
Work products(const StepShape& s, const Hardware& h) {
  const double tokens = unit_tokens(s);
  Work w = gemm(tokens, (s.attention + 2 * s.kv) / s.tp, s.hidden, h);
  w += gemm(tokens, s.hidden, s.attention / s.tp, h);
  const double mixed = s.experts > 0 ? s.expert_layers / s.layers : 0;
  if (mixed < 1) w += mlp(s, s.ffn, tokens, h) * (1 - mixed);
  if (mixed > 0) {
    const double rows = tokens * s.ep * s.per_token / s.experts;  // of each expert here, from the ranks that share it
    w += mlp(s, s.expert_width, rows, h) * (s.experts / s.ep * mixed);
    if (s.shared_width > 0) w += mlp(s, s.shared_width, tokens, h) * mixed;
  }
  return w;
}

Work attention(const StepShape& s, const Hardware& h, const Stack& stack) {
  const double tokens = unit_tokens(s), width = s.attention / s.tp;
  if (stack.fused_attention) {
    const double flops = 2 * tokens * s.seq * width;
    return {flops / (h.flops * h.attention * (stack.recent_attention ? kRecentAttention : 1)), 0, flops};
  }
  const double flops = 4 * tokens * s.seq * width;
  return {flops / (h.flops * h.gemm), kScoreBytes * tokens * s.seq * s.heads / s.tp / h.memory_rate, flops};
}

double weights_of_device(const StepShape& s) {
  const double layer_mlp = (s.gated ? 3 : 2) * s.hidden;
  const double dense = s.layers - s.expert_layers;
  const double all = s.layers * 2 * s.hidden * (s.attention + s.kv) + dense * layer_mlp * s.ffn +
                     s.expert_layers * layer_mlp * (s.experts * s.expert_width / s.ep + s.shared_width) +
                     2 * s.hidden * s.vocab;
  return all / (s.tp * s.pp);
}

// Bytes per second into one rank of a group whose neighbours in the node are `inner` ranks of other groups: inside a
// node its link; across nodes the network of all its ranks in a node together.
double rate_of(const Hardware& h, double ranks, double inner) {
  if (ranks * inner <= h.node) return h.link_rate * kLink;
  const double here = std::max(1.0, std::floor(h.node / inner));
  return std::min(h.link_rate, h.network_rate * here) * kLink;
}

// What a unit exchanges, in bytes a device and step.
Traffic traffic_of(const StepShape& s, const Stack& stack) {
  Traffic t;
  const double layers = s.layers / s.pp * s.units, tokens = unit_tokens(s);
  const double passes = s.recompute == Recomputed::all ? 3 : 2;  // forward, again, backward
  // Two sums over the ranks a block and pass: each to its owner and back.
  t.tensor = layers * 2 * passes * 2 * (s.tp - 1) / s.tp * tokens * s.hidden * stack.exchange_bytes;
  // Keys and values pass around forward, they and their gradients backward.
  t.context = layers * 3 * 2 * 2 * s.kv / s.tp * tokens * (s.cp - 1);
  if (s.experts > 0 && s.ep > 1)
    t.experts = layers * s.expert_layers / s.layers * 2 * passes * s.per_token * tokens * s.hidden * 2 / s.tp * (s.ep - 1) / s.ep;
  if (s.pp > 1) t.pipeline = s.units * 2 * s.chunks * tokens * s.hidden * 2 / s.tp;
  const double ranks = s.dp * s.cp;
  const double bytes = s.zero == 3 ? (2 * 2 + stack.gradient_bytes) * s.units : 2 + stack.gradient_bytes;
  t.data = bytes * weights_of_device(s) * (ranks - 1) / ranks;
  return t;
}

// In units of work, of each device.
double bubble_units(const StepShape& s) {
  if (s.schedule == "interleaved") return (s.pp - 1) / s.chunks;
  if (s.schedule != "zero_bubble") return s.pp - 1;
  const double forward = 1, weight = 1, input = s.recompute == Recomputed::all ? 2 : 1;
  return (s.pp - 1) * (forward + input - weight) / (forward + input + weight);
}

double exposed_data(const StepShape& s, const Stack& stack, double wire, double unit) {
  if (s.zero == 3) return std::max(0.0, wire - (stack.overlap || stack.slow_gather ? unit * s.units : 0));
  return std::max(0.0, wire - (stack.overlap ? unit : 0));  // behind the last unit
}

}  // namespace

std::string StepTime::limit() const {
  const std::vector<std::pair<double, const char*>> parts = {
      {compute, "compute"}, {memory + optimizer, "memory bandwidth"}, {network(), "network"}, {bubble, "bubble"}};
  return std::max_element(parts.begin(), parts.end())->second;
}

StepTime step_time(const StepShape& s, const Hardware& h, const Stack& stack) {
  const double layers = s.layers / s.pp, tokens = unit_tokens(s), passes = s.recompute == Recomputed::all ? 4 : 3;
  const bool again = s.recompute == Recomputed::attention && !stack.fused_attention;
  const Work scores = attention(s, h, stack);
  Work unit = products(s, h) * passes;
  unit += scores * (passes + (again ? 1 : 0));
  const double shared = stack.sequence_parallel ? 1 / s.tp : 0.5 + 0.5 / s.tp;
  unit.memory += passes * kPointwiseBytes * tokens * s.hidden * shared / h.memory_rate;
  unit = unit * layers;
  unit += gemm(tokens, s.vocab / s.tp, s.hidden, h) * (3 / s.pp);

  StepTime t;
  t.traffic = traffic_of(s, stack);
  const double weights = weights_of_device(s);
  t.compute = unit.compute * s.units;
  t.memory = unit.memory * s.units;
  t.hardware_flops = unit.flops * s.units * s.devices();
  t.tensor = t.traffic.tensor / rate_of(h, s.tp, 1) * (stack.overlap ? 1 - kTensorHidden : 1);
  t.context = std::max(0.0, t.traffic.context / rate_of(h, s.cp, s.tp) - layers * s.units * passes * scores.seconds());
  t.experts = t.traffic.experts / rate_of(h, s.ep, 1);
  t.pipeline = t.traffic.pipeline / (h.network_rate * kLink);
  const double before = unit.seconds() + (t.tensor + t.context + t.experts) / s.units;
  t.bubble = bubble_units(s) * (before + t.pipeline / s.units);
  const double wire = t.traffic.data / (rate_of(h, s.dp * s.cp, s.tp) * (stack.slow_gather ? kSlowGather : 1));
  t.data = exposed_data(s, stack, wire, before);
  t.optimizer = kOptimizerBytes * weights / (s.zero > 0 ? s.dp : 1) / h.memory_rate;
  const double slow = (1 + kNodes * std::log2(std::max(1.0, s.devices() / h.node))) / stack.speed;
  for (double StepTime::*part : {&StepTime::compute, &StepTime::memory, &StepTime::tensor, &StepTime::context, &StepTime::experts,
                                 &StepTime::pipeline, &StepTime::data, &StepTime::bubble, &StepTime::optimizer})
    t.*part *= slow;
  return t;
}

}  // namespace llmctl
