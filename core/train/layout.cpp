// SPDX-License-Identifier: Apache-2.0
#include "core/train/layout.h"

#include <algorithm>
#include <string>

namespace llmctl {
namespace {

// A unit's routing decides the losses of all its tokens, and a part of an expert's gradients is one chain.
void check_experts(const TrainConfig& config) {
  const int64_t part = config.moe.units_per_part;
  check(config.parallel.sequences_per_pass == 0, Code::unsupported,
        "[train] parallel.sequences_per_pass: a unit of a model with experts passes whole");
  check(config.batch.units % part == 0 && config.parallel.units_per_pass % part == 0, Code::input, "[train] ",
        config.batch.units, " units in passes of ", config.parallel.units_per_pass,
        " do not divide into moe.units_per_part ", part);
}

// NUMERICS rule 3: tensor-parallel ranks hold whole leaves, all of them full.
void check_leaves(const char* what, int64_t width, int leaves, int tp) {
  check(leaves % tp == 0 && width % (32 * leaves) == 0, Code::input, "[train] parallel.tp ", tp, " does not divide ", what, " ", width,
        " in ", leaves, " leaves: tp must divide the leaves, and 32 times these the width; ",
        width % (32 * tp) == 0 ? "llmctl.leaves " + std::to_string(tp) + " would do" : "no number of leaves would do for this tp");
}

void check_axes(const DecoderConfig& c, const Sharding& s) {
  const int ep = s.size(Axis::ep), tp = s.size(Axis::tp), stages = s.size(Axis::pp) * s.virtual_stages;
  check(ep <= std::max<int64_t>(c.moe.experts, 1), Code::input, "[train] parallel.ep ", ep, ": the model has ", c.moe.experts, " experts to share out");
  check(s.size(Axis::pp) == 1 || stages <= c.layers, Code::input, "[train] parallel.pp ", s.size(Axis::pp),
        s.virtual_stages > 1 ? " with virtual_stages " + std::to_string(s.virtual_stages) : "", ": more stages than the ", c.layers, " layers");
  if (tp == 1) return;
  check((tp & (tp - 1)) == 0, Code::input, "[train] parallel.tp ", tp, ": want a power of two, as the leaves are");
  check(!c.head_norms || c.head_dim % tp == 0, Code::input, "[train] parallel.tp ", tp, " does not divide the norms' head_dim ", c.head_dim);
  check(c.heads % tp == 0 && c.kv_heads % tp == 0, Code::input, "[train] parallel.tp ", tp, " does not divide ", c.heads, " heads and ",
        c.kv_heads, " key-value heads");
  check_leaves("the attention's width", c.attention_width(), c.leaves_attention, tp);
  check_leaves("the keys' width", c.kv_width(), c.leaves_attention, tp);
  if (c.moe.layers_of(c.layers) < c.layers) check_leaves("the MLP's width", c.intermediate, c.leaves_mlp, tp);
  if (c.moe.experts > 0) check_leaves("the experts' width", c.moe.width, c.moe.leaves, tp);
  if (c.moe.shared_width > 0) check_leaves("the shared expert's width", c.moe.shared_width, c.leaves_mlp, tp);
  check_leaves("the padded vocabulary", c.padded_vocab(), c.leaves_vocab, tp);
}

void check_chunks(const UnitConfig& unit, int cp, int64_t part_units) {
  const int64_t c = unit.chunks;
  check((c & (c - 1)) == 0 && unit.seq_len % c == 0, Code::input, "[train] unit.chunks ", c,
        ": want a power of two that divides unit.seq_len ", unit.seq_len);
  check(c % cp == 0, Code::input, "[train] parallel.cp ", cp, " does not divide unit.chunks ", c,
        ": ranks of a sequence have whole chunks of it, and as many");
  check(c == 1 || part_units == 1, Code::input, "[train] unit.chunks ", c, " with moe.units_per_part ", part_units,
        ": a part of an expert's gradients is a chunk of one unit, want 1");
}

// Units are dealt whole, and to ranks that share out experts as many each.
void check_units(const TrainConfig& config, const Sharding& s, int64_t part_units) {
  const int64_t units = config.batch.units, replicas = s.replicas();
  check(replicas <= units / part_units, Code::input, "[train] ", replicas, " data-parallel ranks for the ", units,
        " units of a step (batch.units)", part_units > 1 ? " in parts of moe.units_per_part" : "",
        ": a rank computes whole ones, at least one");
  const int64_t together = part_units * s.size(Axis::ep);
  check(s.size(Axis::ep) == 1 || units % together == 0, Code::input, "[train] parallel.ep ", s.size(Axis::ep),
        ": ranks that share out experts want as many units each, and batch.units ", units, " does not divide by ", together);
}

}  // namespace

void check_layout(const TrainConfig& config, const DecoderConfig& model, const Sharding& s, const kn::Device& device) {
  const bool experts = model.moe.experts > 0;
  const int64_t part_units = experts ? config.moe.units_per_part : 1;
  check_axes(model, s);
  check_units(config, s, part_units);
  check(!s.shared() || device.kind == kn::DeviceKind::cpu, Code::unsupported,
        "[train] ranks on GPUs want NCCL, which is not there yet: --device cpu, or one rank");
  check_chunks(config.unit, s.size(Axis::cp), part_units);
  check(!s.shared() || config.numerics.accumulate == "fixed", Code::input,
        "[train] numerics.accumulate f32 is bound to the order of one rank: ", s.ranks, " ranks want fixed");
  if (experts) check_experts(config);
}

}  // namespace llmctl
