// SPDX-License-Identifier: Apache-2.0
#include "parallel/plan.h"

#include <algorithm>

#include "core/base/memory.h"

namespace llmctl {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Arenas are mapped in huge pages (core/tensor/arena.cpp).
int64_t mapped_bytes(int64_t bytes) {
  constexpr int64_t kHuge = int64_t{2} << 20;
  return bytes < kHuge ? bytes : ceil_div(bytes, kHuge) * kHuge;
}

// The pass of core/models/score.h over a unit, dry: validation runs beside the trainer's memory.
int64_t validation_bytes(Model& model, int64_t tokens, const kn::Exec& exec) {
  Arena batch("validation batch"), scratch("validation", exec.device);
  BatchBuilder builder(batch, tokens, BatchBuilder::default_pages(tokens), model.spec().config.vocab);
  builder.plan(tokens);
  kn::Exec dry = exec;
  dry.plan = true;
  Ctx ctx = model.context(dry, scratch);
  const View hidden = scratch.take(model.spec().compute, {tokens, model.spec().config.hidden});
  model.decoder().forward(ctx, builder.batch(), hidden);
  model.head().loss(ctx, hidden, builder.targets(), scratch.take(DType::f32, {tokens}));
  return mapped_bytes(batch.peak()) + mapped_bytes(scratch.peak());
}

// The numbers of one stage's share, in bytes before ZeRO divides them.
struct Share {
  int64_t states = 0;     // masters and moments
  int64_t gradients = 0;
  int64_t compute = 0;    // rows and panels in the compute dtype
  int64_t block_compute = 0, block_gradients = 0;  // of the largest block: what ZeRO gathers
};

bool in_stage(const std::string& weight, bool tied, int64_t layers, int64_t stage, int64_t stages) {
  const bool first = stage == 0, last = stage + 1 == stages;
  if (weight.rfind("blocks.", 0) != 0) {
    if (weight == "embed") return first || (last && tied);
    return weight == "positions" ? first : last;
  }
  const int64_t layer = std::stoll(weight.substr(7));
  return layer * stages / layers == stage;
}

// Elements of a weight on one tensor-parallel rank; padded rows belong to the sharded dimension.
int64_t local_elements(const Weight& w, int64_t tp) {
  int64_t n = 0, rows = 0;
  for (const Param& p : w.params) {
    n += ceil_div(p.rows * p.cols, p.shard == ShardDim::none ? 1 : tp);
    rows += p.rows;
  }
  const int64_t padding = std::max<int64_t>(0, w.padded_rows - rows) * w.cols();
  return n + ceil_div(padding, w.params.front().shard == ShardDim::rows ? tp : 1);
}

Share share_of(const ModelSpec& spec, const Table& table, const TrainConfig& config, const Layout& l,
               int64_t stage) {
  Share s;
  const int64_t width = size_of(spec.compute);
  const bool fixed = config.numerics.accumulate == "fixed", one_part = config.batch.units == 1;
  const int64_t layers = spec.config.layers;
  int64_t block_elements = 0, block_layer = -1;
  for (const Weight& w : table) {
    if (!in_stage(w.name, spec.config.tied, layers, stage, l.pp)) continue;
    const int64_t n = local_elements(w, l.tp);
    const int64_t grad = fixed && !(one_part && w.role == Role::linear) ? 8 : 4;
    // Rows of tables, and of vectors in fp32, are the masters themselves (core/nn/parameters.h).
    const bool own_rows = w.role == Role::vector && spec.compute != DType::f32;
    const int64_t copies = (own_rows ? 1 : 0) + (w.multiplies() && panels_of(config, config.batch.units) == Panels::kept ? 2 : 0);
    s.states += (config.optimizer.name == "muon" && w.hidden() ? 8 : 12) * n;  // Muon keeps one moment
    s.gradients += grad * n;
    s.compute += copies * width * n;
    if (w.name.rfind("blocks.", 0) != 0) continue;
    const int64_t layer = std::stoll(w.name.substr(7));
    block_elements = layer == block_layer ? block_elements + n : n;
    block_layer = layer;
    s.block_compute = std::max(s.block_compute, 2 * width * block_elements);
    s.block_gradients = std::max(s.block_gradients, grad * block_elements);
  }
  return s;
}

// One tensor-parallel rank's shape as a model of its own.
ModelSpec rank_spec(const ModelSpec& spec, const Layout& l, int64_t layers) {
  ModelSpec r = spec;
  DecoderConfig& c = r.config;
  c.layers = layers;
  c.heads /= l.tp;
  c.kv_heads = std::max<int64_t>(1, c.kv_heads / l.tp);
  c.intermediate = ceil_div(c.intermediate, l.tp);
  c.vocab = ceil_div(c.padded_vocab(), l.tp);
  auto divide = [&](int& leaves) { leaves = std::max(1, leaves / static_cast<int>(l.tp)); };
  divide(c.leaves_attention), divide(c.leaves_mlp), divide(c.leaves_vocab);
  return r;
}

struct Activations {
  int64_t block = 0;  // what one more block keeps and needs
  int64_t rest = 0;   // head, loss, the deepest scratch
  int64_t batch = 0;
  int64_t optimizer_block = 0, optimizer = 0;  // scratch of one more block, and of what there is once
};

Activations dry_run(const TrainConfig& config, const ModelSpec& spec, const Layout& l, const kn::Exec& exec) {
  auto lines = [&](int64_t layers) { return Trainer(config, rank_spec(spec, l, layers), exec).plan(); };
  const std::vector<MemoryLine> one = lines(1), two = lines(2);
  Activations a;
  a.block = two[1].bytes - one[1].bytes;
  a.rest = one[1].bytes - a.block;
  a.batch = one[2].bytes;
  a.optimizer_block = two[3].bytes - one[3].bytes;
  a.optimizer = one[3].bytes - a.optimizer_block;
  // A rank updates whole logical matrices (NUMERICS rule 19).
  if (config.optimizer.name == "muon" && l.tp > 1)
    a.optimizer = Trainer(config, rank_spec(spec, Layout{}, 1), exec).plan()[3].bytes - a.optimizer_block;
  return a;
}

LayoutPlan plan_stage(const TrainConfig& config, const ModelSpec& spec, const Table& table, const Layout& l,
                      const Activations& a, int64_t stage) {
  const Share s = share_of(spec, table, config, l, stage);
  const DecoderConfig& c = spec.config;
  int64_t blocks = 0;
  for (int64_t layer = 0; layer < c.layers; ++layer) blocks += layer * l.pp / c.layers == stage;
  const int64_t units = ceil_div(config.batch.units, l.dp);
  const int64_t in_flight = std::min(l.pp - stage, ceil_div(units, config.parallel.units_per_pass));
  auto divided = [&](int64_t bytes, int level) { return l.zero >= level ? ceil_div(bytes, l.dp) : bytes; };
  LayoutPlan p{l, stage, {}, 0};
  p.lines = {{"master weights and moments", divided(s.states, 1)},
             {"gradients", divided(s.gradients, 2)},
             {"compute copy", divided(s.compute, 3)},
             {"activations", in_flight * blocks * a.block + a.rest},
             {"batch and optimiser scratch", a.batch + blocks * a.optimizer_block + a.optimizer}};
  // The block in use and the one on its way.
  if (l.zero >= 3 && l.dp > 1) p.lines.push_back({"gathered blocks", 2 * s.block_compute});
  if (l.zero >= 2 && l.dp > 1) p.lines.push_back({"gradients in transit", 2 * s.block_gradients});
  const int64_t tokens = config.unit.sequences * config.unit.seq_len * config.parallel.units_per_pass;
  // Leaf sums travel in fp32 (NUMERICS rule 4), one sent and one received.
  if (l.tp > 1) p.lines.push_back({"tensor-parallel exchange", 2 * 4 * tokens * c.hidden});
  if (l.pp > 1) p.lines.push_back({"pipeline exchange", 2 * size_of(spec.compute) * tokens * c.hidden});
  p.bytes = total_bytes(p.lines);
  return p;
}

std::string cannot_shard(const char* what, int64_t width, int leaves, int64_t tp) {
  if (leaves % tp != 0)
    return std::string("tp ") + std::to_string(tp) + " does not divide the " + std::to_string(leaves) + " leaves of " +
           what + ": set llmctl.leaves";
  if (width % (32 * leaves) != 0)
    return std::string(what) + " " + std::to_string(width) + " is not a multiple of 32 x " + std::to_string(leaves) +
           " leaves";
  return "";
}

LayoutPlan worst_stage(const TrainConfig& config, const ModelSpec& spec, const Table& table, const Layout& l,
                       const Activations& a) {
  LayoutPlan worst = plan_stage(config, spec, table, l, a, 0);
  for (int64_t stage = 1; stage < l.pp; ++stage)
    if (LayoutPlan p = plan_stage(config, spec, table, l, a, stage); p.bytes > worst.bytes) worst = std::move(p);
  return worst;
}

}  // namespace

int64_t total_bytes(const std::vector<MemoryLine>& lines) {
  int64_t sum = 0;
  for (const MemoryLine& line : lines) sum += line.bytes;
  return sum;
}

std::vector<MemoryLine> plan_here(const TrainConfig& config, const ModelSpec& spec, const kn::Exec& exec,
                                  const Sharding& sharding) {
  // What a step touches of the program beyond what is resident now (measured, x86-64), and of each
  // thread's stack: the sums and packed operands of a product's task (kernels/gemm.cpp).
  constexpr int64_t kCodeToCome = 2 << 20, kTaskStack = 640 << 10;
  std::vector<MemoryLine> lines = {{"process", resident_bytes() + kCodeToCome},
                                   {"stacks", exec.pool->threads() * kTaskStack}};
  Trainer trainer(config, spec, exec, sharding);
  for (const MemoryLine& line : trainer.plan()) lines.push_back({line.what, mapped_bytes(line.bytes)});
  if (!config.data.validation.empty())
    lines.push_back({"validation", validation_bytes(trainer.model(), config.unit.sequences * config.unit.seq_len, exec)});
  int64_t largest = 0;
  for (const Weight& w : spec.table())
    for (const Param& p : w.params)  // Conv1D tensors pass through a second copy to be turned
      largest = std::max(largest, p.rows * p.cols * size_of(spec.compute) * (p.transposed ? 2 : 1));
  lines.push_back({"checkpoint buffer", largest});
  return lines;
}

std::string why_not(const ModelSpec& spec, const TrainConfig& config, const Layout& l) {
  const DecoderConfig& c = spec.config;
  auto text = [](auto... parts) { return (std::string() + ... + parts); };
  if (l.tp < 1 || l.pp < 1 || l.dp < 1 || (l.tp & (l.tp - 1)) != 0) return "tp must be a power of two, pp and dp 1 or more";
  if (l.pp > c.layers) return text(std::to_string(l.pp), " stages for ", std::to_string(c.layers), " layers");
  if (l.dp > config.batch.units)
    return text(std::to_string(l.dp), " data-parallel ranks for ", std::to_string(config.batch.units),
                " units: raise batch.units");
  if (l.tp == 1) return "";
  if (c.heads % l.tp != 0) return text(std::to_string(c.heads), " heads do not divide by tp ", std::to_string(l.tp));
  std::string why = cannot_shard("the attention width", c.attention_width(), c.leaves_attention, l.tp);
  if (why.empty()) why = cannot_shard("the MLP width", c.intermediate, c.leaves_mlp, l.tp);
  if (why.empty()) why = cannot_shard("the padded vocabulary", c.padded_vocab(), c.leaves_vocab, l.tp);
  return why;
}

LayoutPlan plan_layout(const TrainConfig& config, const ModelSpec& spec, const Layout& layout, const kn::Exec& exec) {
  const std::string why = why_not(spec, config, layout);
  check(why.empty(), Code::unsupported, "[plan] tp ", layout.tp, ", pp ", layout.pp, ", dp ", layout.dp, ": ", why);
  return worst_stage(config, spec, spec.table(), layout, dry_run(config, spec, layout, exec));
}

std::vector<LayoutPlan> plan_layouts(const TrainConfig& config, const ModelSpec& spec, int64_t devices,
                                     const Layout& wanted, const kn::Exec& exec) {
  std::vector<LayoutPlan> plans;
  const Table table = spec.table();
  for (int64_t tp = 1; tp <= 8; tp *= 2) {
    if (wanted.tp != 0 && wanted.tp != tp) continue;
    if (!why_not(spec, config, {tp, 1, 1, 1}).empty()) continue;
    const Activations a = dry_run(config, spec, {tp, 1, 1, 1}, exec);  // the same for every pp, dp and zero
    for (int64_t pp = 1; tp * pp <= devices; ++pp) {
      const bool asked = wanted.pp != 0 ? wanted.pp == pp : (pp & (pp - 1)) == 0;
      if (!asked || devices % (tp * pp) != 0) continue;
      for (int zero = wanted.zero == 0 ? 0 : 1; zero <= 3; ++zero) {
        const Layout l{tp, pp, devices / (tp * pp), zero};
        if ((wanted.dp != 0 && wanted.dp != l.dp) || (wanted.zero >= 0 && wanted.zero != zero)) continue;
        if (l.dp == 1 && zero > 1 && wanted.zero < 0) continue;  // nothing to divide
        if (why_not(spec, config, l).empty()) plans.push_back(worst_stage(config, spec, table, l, a));
      }
    }
  }
  std::stable_sort(plans.begin(), plans.end(),
                   [](const LayoutPlan& a, const LayoutPlan& b) { return a.bytes < b.bytes; });
  return plans;
}

}  // namespace llmctl
