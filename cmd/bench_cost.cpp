// SPDX-License-Identifier: Apache-2.0
#include "cmd/bench_cost.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace llmctl {
namespace {

using enum WorkKind;

constexpr double kBf16 = 2;  // bytes

double activation_bytes(const CostShape& s, double tokens) {
  const double elements = 8 * s.hidden + 2 * (s.attention_width + 2 * s.kv_width) + 3 * s.intermediate;
  return kBf16 * s.layers * tokens * elements;
}

// The ops of a forward pass, or of a forward and a backward one: products, and what lies between them.
void add_ops(Cost& c, const CostShape& s, double passes) {
  c[products].ops += passes * (4 * s.layers + 1);
  c[attention].ops += s.layers;
  c[activations].ops += passes * (5 * s.layers + 3);
}

WorkKind kind_of(const std::string& op) {
  struct {
    const char* op;
    WorkKind kind;
  } constexpr known[] = {{"gemm_dw", gradients},
                         {"gemm", products},
                         {"quant_gemm", products},
                         {"quantize_rows", products},
                         {"bias_grad", gradients},
                         {"attn_fwd", attention},
                         {"attn_bwd", attention_backward},
                         {"cross_entropy_fwd", loss},
                         {"cross_entropy_bwd", loss},
                         {"adamw", optimiser},
                         {"clear", optimiser},
                         {"grad_norm", optimiser},
                         {"tensor_digest", optimiser},
                         {"pack_panels", optimiser},
                         {"convert", optimiser}};
  for (const auto& k : known)
    if (op == k.op) return k.kind;
  return activations;
}

double arithmetic_rate(WorkKind kind, const Probes& probes) {
  return kind == products || kind == gradients ? probes.products : probes.flops;
}

}  // namespace

const char* name_of(WorkKind kind) {
  constexpr const char* names[] = {"products", "gradients", "attention",   "attention_backward",
                                   "loss",     "optimiser", "activations", "sampling"};
  return names[static_cast<int>(kind)];
}

CostShape cost_shape(const DecoderConfig& c, const Table& table, double weight_bytes) {
  CostShape s{.layers = static_cast<double>(c.layers),
              .hidden = static_cast<double>(c.hidden),
              .attention_width = static_cast<double>(c.attention_width()),
              .kv_width = static_cast<double>(c.kv_width()),
              .intermediate = static_cast<double>(c.intermediate),
              .vocab = static_cast<double>(c.vocab),
              .parameters = static_cast<double>(parameter_count(table))};
  for (const Weight& w : table)
    if (w.multiplies()) (w.hidden() ? s.matrices : s.head) += static_cast<double>(w.rows() * w.cols());
  s.weight_bytes = weight_bytes > 0 ? weight_bytes : kBf16 * (s.matrices + s.head);
  return s;
}

Cost training_cost(const CostShape& s, double sequences, double seq) {
  const double tokens = sequences * seq, elements = s.matrices + s.head;
  Cost c;
  c[products] = {4 * tokens * elements, 2 * s.weight_bytes};
  c[gradients] = {2 * tokens * elements, 4 * elements, 4 * s.layers + 1};
  c[attention] = {2 * sequences * seq * seq * s.attention_width * s.layers};
  c[attention_backward] = {5 * sequences * seq * seq * s.attention_width * s.layers, 0, s.layers};
  c[loss] = {0, 16 * tokens * s.vocab, 2};
  c[optimiser] = {0, 36 * s.parameters, 6 * (6 * s.layers + 3)};  // its ops for each weight
  c[activations] = {0, 3 * activation_bytes(s, tokens)};
  add_ops(c, s, 2);
  return c;
}

Cost prefill_cost(const CostShape& s, double tokens, double piece) {
  const double pieces = std::ceil(tokens / piece), share_of_head = s.head / (s.matrices + s.head);
  Cost c;
  c[products] = {2 * tokens * s.matrices + 2 * s.head,
                 s.weight_bytes * (pieces * (1 - share_of_head) + share_of_head)};
  c[attention] = {2 * tokens * tokens * s.attention_width * s.layers};
  c[activations] = {0, activation_bytes(s, tokens)};
  c[sampling] = {0, 12 * s.vocab};
  for (double p = 0; p < pieces; ++p) add_ops(c, s, 1);
  return c;
}

Cost decode_cost(const CostShape& s, double sequences, double depth) {
  Cost c;
  c[products] = {2 * sequences * (s.matrices + s.head), s.weight_bytes};
  c[attention] = {4 * sequences * depth * s.attention_width * s.layers,
                  2 * kBf16 * sequences * depth * s.kv_width * s.layers};
  c[activations] = {0, activation_bytes(s, sequences)};
  c[sampling] = {0, 12 * sequences * s.vocab};
  add_ops(c, s, 1);
  return c;
}

double seconds_of(const Work& w, WorkKind kind, const Probes& probes, const Share& share) {
  const double arithmetic = w.flops / (arithmetic_rate(kind, probes) * share.flops);
  const double memory = w.bytes / (probes.bytes * share.bytes);
  return std::max(arithmetic, memory) + w.ops * probes.op_seconds;
}

double seconds_of(const Cost& cost, const Probes& probes, const Shares& shares) {
  double sum = 0;
  for (int k = 0; k < kWorkKinds; ++k) {
    const auto kind = static_cast<WorkKind>(k);
    sum += seconds_of(cost[kind], kind, probes, shares[kind]);
  }
  return sum;
}

KindSeconds kind_seconds(const OpTimes& times, double wall, WorkKind rest) {
  KindSeconds out;
  double traced = 0;
  for (const OpTimes::Row& row : times.rows()) {
    out[kind_of(row.op)] += row.seconds;
    traced += row.seconds;
  }
  out[rest] += std::max(0.0, wall - traced);
  return out;
}

void calibrate(Shares& shares, const Cost& cost, const KindSeconds& measured, const Probes& probes) {
  for (int k = 0; k < kWorkKinds; ++k) {
    const auto kind = static_cast<WorkKind>(k);
    const Work& w = cost[kind];
    if (measured[kind] <= 0 || (w.flops == 0 && w.bytes == 0)) continue;
    // At least a tenth is work: a fixed time that was measured apart must not eat all of it.
    const double seconds = std::max(measured[kind] - w.ops * probes.op_seconds, 0.1 * measured[kind]);
    const double arithmetic = w.flops / arithmetic_rate(kind, probes), memory = w.bytes / probes.bytes;
    if (arithmetic >= memory)
      shares[kind].flops = arithmetic / seconds;
    else
      shares[kind].bytes = memory / seconds;
  }
}

}  // namespace llmctl
