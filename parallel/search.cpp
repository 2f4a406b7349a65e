// SPDX-License-Identifier: Apache-2.0
#include "parallel/search.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "core/train/run.h"

namespace llmctl {
namespace {

constexpr double kUsable = 0.9;

double as_double(int64_t n) { return static_cast<double>(n); }

bool better(const Prediction& a, const Prediction& b) {
  if (a.fits != b.fits) return a.fits;
  return a.fits ? a.seconds < b.seconds : a.memory.bytes < b.memory.bytes;
}

}  // namespace

StepShape step_shape(const TrainConfig& config, const ModelSpec& spec, const Layout& l) {
  const DecoderConfig& c = spec.config;
  const int64_t units = (config.batch.units + l.replicas() - 1) / l.replicas(), pass = config.parallel.units_per_pass;
  StepShape s;
  s.layers = as_double(c.layers), s.hidden = as_double(c.hidden), s.vocab = as_double(c.vocab);
  s.attention = as_double(c.attention_width()), s.kv = as_double(c.kv_width()), s.heads = as_double(c.heads);
  s.ffn = as_double(c.intermediate);
  s.gated = c.mlp == MlpKind::swiglu;
  if (c.moe.experts > 0) {
    s.experts = as_double(c.moe.experts), s.per_token = as_double(c.moe.per_token);
    s.expert_width = as_double(c.moe.width), s.shared_width = as_double(c.moe.shared_width);
    s.expert_layers = as_double(c.moe.layers_of(c.layers));
  }
  s.seq = as_double(config.unit.seq_len);
  s.sequences = as_double(config.unit.sequences * std::min(pass, units));
  s.units = as_double((units + pass - 1) / pass);
  s.tp = as_double(l.tp), s.pp = as_double(l.pp), s.cp = as_double(l.cp), s.ep = as_double(l.ep);
  s.dp = as_double(l.replicas());
  s.chunks = as_double(l.chunks), s.schedule = l.schedule, s.zero = l.zero;
  const std::string& recompute = l.recompute.empty() ? config.parallel.recompute : l.recompute;
  s.recompute = recompute == "block" ? Recomputed::all : Recomputed::none;
  return s;
}

Prediction predict(const TrainConfig& config, const ModelSpec& spec, const Table& table, LayoutPlan memory,
                   const Hardware& hardware) {
  Prediction p;
  const Layout& l = memory.layout;
  Stack stack;
  stack.gradient_bytes = config.numerics.accumulate == "fixed" ? 8 : 4;
  p.time = step_time(step_shape(config, spec, l), hardware, stack);
  p.seconds = p.time.total();
  p.tokens = as_double(config.unit.sequences * config.unit.seq_len * config.batch.units);
  p.model_flops = p.tokens * training_flops_per_token(spec.config, table, config.unit.seq_len);
  const double devices = as_double(l.devices());
  p.flops_per_device = p.model_flops / (p.seconds * devices);
  p.mfu = p.flops_per_device / hardware.flops;
  p.hfu = p.time.hardware_flops / (p.seconds * devices * hardware.flops);
  p.bubble = p.time.bubble / p.seconds;
  p.tokens_per_day = 86400 * p.tokens / p.seconds;
  p.joules_per_token = hardware.watts * devices * p.seconds / p.tokens;
  p.price_per_token = hardware.price * devices * p.seconds / 3600 / p.tokens;
  p.fits = as_double(memory.bytes) <= kUsable * hardware.memory;
  p.limit = p.fits ? p.time.limit() : "memory";
  p.memory = std::move(memory);
  return p;
}

std::vector<Prediction> search_layouts(const TrainConfig& config, const ModelSpec& spec, int64_t devices,
                                       const Layout& wanted, const Hardware& hardware, const kn::Exec& exec) {
  const Table table = spec.table();
  std::vector<Prediction> all;
  for (LayoutPlan& plan : plan_layouts(config, spec, devices, wanted, exec))
    all.push_back(predict(config, spec, table, std::move(plan), hardware));
  std::stable_sort(all.begin(), all.end(), better);
  std::set<std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>> seen;
  std::vector<Prediction> best;
  for (Prediction& p : all) {
    const Layout& l = p.memory.layout;
    if (seen.insert({l.tp, l.pp, l.dp, l.cp, l.ep}).second) best.push_back(std::move(p));
  }
  return best;
}

}  // namespace llmctl
