// SPDX-License-Identifier: Apache-2.0
#include "parallel/plan.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/base/memory.h"
#include "core/train/layout.h"
#include "core/nn/slices.h"
#include "core/train/pipeline.h"

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

// What one rank holds of weights, in bytes.
struct Share {
  int64_t states = 0, gradients = 0, compute = 0;
  int64_t bundle_weights = 0, bundle_gradients = 0;  // of what comes and goes (core/nn/bundle_store.h)
  int64_t largest = 0;                               // of a matrix, in the compute dtype
  int64_t passing = 0, coming = 0;                   // of rounds (core/nn/slice_exchange.h)
};

Sharding sharding_of(const Layout& l, int64_t stage) {
  Sharding s{.rank = static_cast<int>(stage * (l.devices() / l.pp)), .ranks = static_cast<int>(l.devices()), .stage = l.zero};
  s.axes = {.pp = static_cast<int>(l.pp), .cp = static_cast<int>(l.cp), .tp = static_cast<int>(l.tp), .ep = static_cast<int>(l.ep)};
  s.virtual_stages = static_cast<int>(l.chunks);
  return s;
}

// What core/nn/parameters.cpp places, weight by weight. Owners share what is held alike, as even as tiles allow.
class Placing {
 public:
  Placing(const ModelSpec& spec, const TrainConfig& config, const Layout& l, const Slicing& slicing, int64_t stage)
      : spec_(spec), config_(config), slicing_(slicing), sharding_(sharding_of(l, stage)), replicas_(l.dp * l.cp * l.ep),
        kept_(sharding_.states() ? !sharding_.weights() : panels_of(config, ceil_div(config.batch.units, l.replicas())) == Panels::kept) {}

  void add(const Weight& w) {
    const Slice slice = slicing_.slice(w, sharding_.rank);
    if (!slice.held) return;
    const bool states = sharding_.states(), cut = sharding_.cut(), vector = w.role == Role::vector;
    const int64_t n = slice.row_count() * slice.cols, whole = std::max(w.padded_rows, w.rows()) * w.cols();
    const int64_t own = states ? ceil_div(whole, slicing_.holder_count(w)) : n;
    const bool in_bundle = slicing_.in_bundle(w, sharding_), comes = in_bundle && sharding_.weights() && !vector;
    const bool one_part = config_.batch.units == 1 && !sharding_.shared() && w.role == Role::linear;
    const bool is_master = !states && (spec_.compute == DType::f32 || w.role == Role::table);
    const int64_t width = size_of(spec_.compute), grad = config_.numerics.accumulate == "fixed" && !one_part ? 8 : 4;
    share_.states += (config_.optimizer.name == "muon" && w.hidden() ? 8 : 12) * own;  // Muon keeps one moment
    if (in_bundle || cut) share_.gradients += grad * own;
    if (!in_bundle) share_.gradients += grad * n;
    if (comes) share_.compute += width * own;
    if (w.role != Role::linear && !comes && !is_master) share_.compute += width * n;
    if (w.multiplies() && kept_) share_.compute += 2 * width * n;
    if (states && !comes && (cut || w.role == Role::linear)) share_.largest = std::max(share_.largest, width * n);
    Bundle& b = bundles_[slicing_.bundle_of(w)];
    b.gradients += in_bundle ? 8 * n : 0, b.weights += comes ? width * n : 0, b.own += in_bundle ? own : 0;
    held_ += n, owned_ += own;
  }

  Share done() {
    int64_t own = 0, slot[2] = {0, 0}, number = 0;
    for (const auto& [at, b] : bundles_) {
      share_.bundle_gradients = std::max(share_.bundle_gradients, b.gradients);
      own = std::max(own, b.own);
      if (b.weights > 0) slot[number % 2] = std::max(slot[number % 2], b.weights), ++number;
    }
    share_.bundle_weights = slot[0] + slot[1];  // in use, and on its way
    if (!sharding_.cut()) return share_;
    // A round has rows of this rank for each rank that holds them, and rows of all for this one.
    const int64_t round = SliceExchange::kRoundElements, width = size_of(spec_.compute);
    const auto pass = [&](int64_t bytes, int64_t owned, int64_t held) {
      return bytes * (std::min(round, owned) * replicas_ + std::min(round, held));
    };
    share_.passing = std::max(pass(8, owned_, held_), share_.largest + pass(width, owned_, held_));
    if (sharding_.weights()) share_.coming = pass(width, own, share_.bundle_weights / width);
    return share_;
  }

 private:
  struct Bundle {
    int64_t gradients = 0, weights = 0, own = 0;
  };
  const ModelSpec& spec_;
  const TrainConfig& config_;
  const Slicing& slicing_;
  Sharding sharding_;
  int64_t replicas_;
  bool kept_;
  Share share_;
  std::map<int64_t, Bundle> bundles_;
  int64_t held_ = 0, owned_ = 0;
};

Share share_of(const ModelSpec& spec, const Table& table, const Slicing& slicing, const TrainConfig& config, const Layout& l,
               int64_t stage) {
  Placing placing(spec, config, l, slicing, stage);
  for (const Weight& w : table) placing.add(w);
  return placing.done();
}

// One rank's shape as a model of its own.
ModelSpec rank_spec(const ModelSpec& spec, const Layout& l, int64_t layers) {
  ModelSpec r = spec;
  DecoderConfig& c = r.config;
  c.layers = layers;
  c.heads /= l.tp;
  c.kv_heads = std::max<int64_t>(1, c.kv_heads / l.tp);
  c.intermediate = ceil_div(c.intermediate, l.tp);
  c.vocab = ceil_div(c.padded_vocab(), l.tp);
  c.moe.experts = std::max(c.moe.experts / l.ep, std::min(c.moe.experts, c.moe.per_token));  // a token's choice must exist
  c.moe.width = ceil_div(c.moe.width, l.tp);
  c.moe.shared_width = ceil_div(c.moe.shared_width, l.tp);
  auto divide = [&](int& leaves) { leaves = std::max(1, leaves / static_cast<int>(l.tp)); };
  divide(c.leaves_attention), divide(c.leaves_mlp), divide(c.leaves_vocab), divide(c.moe.leaves);
  return r;
}

struct Activations {
  int64_t block = 0;  // what one more block keeps and needs
  int64_t rest = 0;   // head, loss, the deepest scratch
  int64_t batch = 0;
  int64_t optimizer_block = 0, optimizer = 0;  // scratch of one more block, and of what there is once
};

// The backward pass comes in two.
bool halves(const Layout& l) { return l.pp > 1 && l.schedule == "zero_bubble"; }

// Context-parallel ranks compute with a piece of each row.
TrainConfig rank_config(const TrainConfig& config, const Layout& l) {
  TrainConfig r = config;
  r.unit.seq_len = ceil_div(config.unit.seq_len, l.cp);
  r.unit.chunks = std::max<int64_t>(1, config.unit.chunks / l.cp);
  if (!l.recompute.empty()) r.parallel.recompute = l.recompute;
  if (halves(l)) r.parallel.recompute = "none";  // core/train/trainer.cpp
  return r;
}

// Where weights come and go (ZeRO 3) products pack their panels in scratch.
bool packs(const Layout& l) { return l.zero >= 3 && l.devices() > 1; }

Activations dry_run(const TrainConfig& whole, const ModelSpec& spec, const Layout& l, const kn::Exec& exec) {
  const TrainConfig config = rank_config(whole, l);
  const Layout sliced{.tp = l.tp, .ep = l.ep};
  const bool ranks = packs(l) && config.batch.units >= 2 * config.moe.units_per_part && config.numerics.accumulate == "fixed";
  const Sharding sharding = ranks ? Sharding{0, 2, 3} : Sharding{};
  auto lines = [&](int64_t layers) { return Trainer(config, rank_spec(spec, sliced, layers), exec, sharding).plan(); };
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

// Elements that the products of a block's linears make of a token.
int64_t output_columns(const DecoderConfig& c) {
  const int64_t matrices = (c.mlp == MlpKind::swiglu ? 2 : 1);
  const int64_t mlp = c.moe.experts > 0 ? c.moe.per_token * (matrices * c.moe.width + c.hidden) : matrices * c.intermediate + c.hidden;
  return c.attention_width() + 2 * c.kv_width() + c.hidden + mlp;
}

LayoutPlan plan_rank(const TrainConfig& config, const ModelSpec& spec, const Layout& l, const Share& s, const Activations& a,
                     int64_t rank) {
  const DecoderConfig& c = spec.config;
  const Stages stages(c.layers, static_cast<int>(l.pp), static_cast<int>(l.chunks));
  int64_t blocks = 0, most = 0;  // of the rank, and of a chunk: a pass has room for any of the rank's chunks
  for (int64_t chunk = 0; chunk < l.chunks; ++chunk) {
    const int64_t count = stages.layers_of(static_cast<int>(chunk * l.pp + rank)).count;
    blocks += count, most = std::max(most, count);
  }
  const int64_t passes = ceil_div(ceil_div(config.batch.units, l.replicas()), config.parallel.units_per_pass);
  const int64_t alive = l.pp == 1 ? blocks : chunks_in_flight(l, rank, passes) * most;
  const int64_t tokens = config.unit.sequences * config.unit.seq_len / l.cp * config.parallel.units_per_pass;
  LayoutPlan p{l, rank, {}, 0};
  p.lines = {{"master weights and moments", s.states},
             {"gradients", s.gradients},
             {"compute copy", s.compute},
             {"activations", alive * a.block + a.rest},
             {"batch and optimiser scratch", a.batch + blocks * a.optimizer_block + a.optimizer}};
  const bool cut = l.tp * l.pp * l.ep > 1;
  if (s.bundle_weights > 0) p.lines.push_back({"gathered blocks", s.bundle_weights + s.coming});
  if (!cut && l.zero < 3 && s.largest > 0) p.lines.push_back({"a matrix on its way", s.largest});
  if (s.bundle_gradients > 0) p.lines.push_back({"a block's gradients", s.bundle_gradients});
  // Passes hold the gradients of all products' outputs until the weights' halves have run.
  if (halves(l))
    p.lines.push_back({"weight halves put off", alive * tokens * size_of(spec.compute) * output_columns(c) / l.tp});
  // What passes between slices and the rows that are kept, at both ends (core/nn/slice_exchange.cpp).
  if (cut) p.lines.push_back({"slices on their way", s.passing});
  // Leaf sums travel in fp32 (NUMERICS rule 4), one sent and one received.
  if (l.tp > 1) p.lines.push_back({"tensor-parallel exchange", 2 * 4 * tokens * c.hidden});
  if (l.pp > 1) p.lines.push_back({"pipeline exchange", 2 * size_of(spec.compute) * tokens * c.hidden});
  if (l.cp > 1)
    p.lines.push_back({"keys and values of all rows", 2 * 2 * size_of(spec.compute) * tokens * l.cp * c.kv_width() / l.tp});
  if (l.ep > 1)
    p.lines.push_back({"expert-parallel exchange", 2 * size_of(spec.compute) * tokens * c.moe.per_token * c.hidden});
  p.bytes = total_bytes(p.lines);
  return p;
}

// The first rank holds the most units, the last the head; those between hold the same.
LayoutPlan worst_rank(const TrainConfig& config, const ModelSpec& spec, const Table& table, const Layout& l,
                      const Activations& a) {
  LayoutPlan worst;
  const Slicing slicing(table, sharding_of(l, 0));
  for (const int64_t rank : std::set<int64_t>{0, std::min<int64_t>(1, l.pp - 1), l.pp / 2, l.pp - 1})
    if (LayoutPlan p = plan_rank(config, spec, l, share_of(spec, table, slicing, config, l, rank), a, rank); p.bytes > worst.bytes)
      worst = std::move(p);
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
  // Where states are shared out, the one that writes puts a master together in fp32 first.
  lines.push_back({"checkpoint buffer", sharding.states() ? 3 * largest : largest});
  // Small messages of the peers at work arrive before their receives (tcp_transport.cpp), measured.
  constexpr int64_t kPeer = 3 << 19;
  if (sharding.shared()) lines.push_back({"messages", std::min(sharding.ranks - 1, 8) * kPeer});
  return lines;
}

int64_t chunks_in_flight(const Layout& l, int64_t rank, int64_t units) {
  if (l.pp == 1) return l.chunks;
  const int64_t all = units * l.chunks;
  if (l.schedule == "gpipe") return all;
  if (l.schedule == "zero_bubble") return std::min(l.pp, all);
  if (l.schedule == "1f1b") return std::min(l.pp - rank, all);
  const int64_t groups = std::max<int64_t>(1, units / l.pp);
  return std::min((l.pp - rank - 1) * 2 + (l.chunks - 1) * ceil_div(units, groups) + 1, all);
}

std::string why_not(const ModelSpec& spec, const TrainConfig& config, const Layout& l) {
  const DecoderConfig& c = spec.config;
  if (l.tp < 1 || l.pp < 1 || l.dp < 1 || l.cp < 1 || l.ep < 1 || (l.tp & (l.tp - 1)) != 0)
    return "tp must be a power of two, pp, dp, cp and ep 1 or more";
  if (l.pp > 1) try {
      make_schedule(l.schedule, 2, static_cast<int>(l.chunks), 1);
    } catch (const Error& e) {
      return e.what();
    }
  try {
    check_layout(config, c, sharding_of(l, 0), {});
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

LayoutPlan plan_layout(const TrainConfig& config, const ModelSpec& spec, const Layout& layout, const kn::Exec& exec) {
  const std::string why = why_not(spec, config, layout);
  check(why.empty(), Code::unsupported, "[plan] tp ", layout.tp, ", pp ", layout.pp, ", dp ", layout.dp, ": ", why);
  return worst_rank(config, spec, spec.table(), layout, dry_run(config, spec, layout, exec));
}

namespace {

bool power_of_two(int64_t n) { return (n & (n - 1)) == 0; }

// The sizes to try: the one wanted, or powers of two up to `most`.
std::vector<int64_t> sizes(int64_t wanted, int64_t most) {
  if (wanted != 0) return {wanted};
  std::vector<int64_t> all;
  for (int64_t n = 1; n <= most; n *= 2) all.push_back(n);
  return all;
}

// Schedules with their chunks.
std::vector<std::pair<std::string, int64_t>> schedules(const Layout& wanted, int64_t pp) {
  if (pp == 1) return {{"1f1b", 1}};
  std::vector<std::pair<std::string, int64_t>> all;
  for (const auto& [kind, chunks] : std::vector<std::pair<std::string, int64_t>>{
           {"1f1b", 1}, {"zero_bubble", 1}, {"gpipe", 1}, {"interleaved", 2}, {"interleaved", 4}, {"interleaved", 8}}) {
    if (wanted.schedule.empty() ? kind == "gpipe" : wanted.schedule != kind) continue;
    if (wanted.chunks == 0 || wanted.chunks == chunks) all.emplace_back(kind, chunks);
  }
  if (all.empty()) all.emplace_back(wanted.schedule.empty() ? "interleaved" : wanted.schedule, std::max<int64_t>(1, wanted.chunks));
  return all;
}

// With tp, cp, ep and recompute decided: each way to give pp, dp, zero and the schedule.
void add_layouts(const TrainConfig& config, const ModelSpec& spec, const Table& table, int64_t devices, const Layout& wanted,
                 Layout l, const kn::Exec& exec, std::vector<LayoutPlan>& plans) {
  std::map<std::pair<bool, bool>, Activations> dry;  // the same for every pp, dp and most schedules

  const int64_t inner = l.tp * l.cp * l.ep;
  for (l.pp = 1; inner * l.pp <= devices; ++l.pp) {
    const bool asked = wanted.pp != 0 ? wanted.pp == l.pp : power_of_two(l.pp);
    if (!asked || devices % (inner * l.pp) != 0) continue;
    l.dp = devices / (inner * l.pp);
    if (wanted.dp != 0 && wanted.dp != l.dp) continue;
    for (l.zero = wanted.zero == 0 ? 0 : 1; l.zero <= 3; ++l.zero) {
      if (wanted.zero >= 0 && wanted.zero != l.zero) continue;
      if (l.dp * l.cp * l.ep == 1 && l.zero > 1 && wanted.zero < 0) continue;  // nothing more to divide
      for (const auto& [schedule, chunks] : schedules(wanted, l.pp)) {
        l.schedule = schedule;
        l.chunks = chunks;
        if (!why_not(spec, config, l).empty()) continue;
        const std::pair kind{packs(l), halves(l)};
        if (!dry.contains(kind)) dry[kind] = dry_run(config, spec, l, exec);
        plans.push_back(worst_rank(config, spec, table, l, dry[kind]));
      }
    }
  }
}

}  // namespace

std::vector<LayoutPlan> plan_layouts(const TrainConfig& config, const ModelSpec& spec, int64_t devices,
                                     const Layout& wanted, const kn::Exec& exec) {
  std::vector<LayoutPlan> plans;
  const Table table = spec.table();
  const bool any = wanted.recompute == "any";
  const std::vector<std::string> recomputes =
      any ? std::vector<std::string>{"none", "norms", "pointwise", "block"} : std::vector<std::string>{wanted.recompute};
  const int64_t most_cp = std::max<int64_t>(1, config.unit.seq_len / 8192);  // shorter pieces gain nothing
  for (const int64_t tp : sizes(wanted.tp, 8))
    for (const int64_t cp : sizes(wanted.cp, most_cp))
      for (const int64_t ep : sizes(wanted.ep, std::max<int64_t>(1, spec.config.moe.experts)))
        for (const std::string& recompute : recomputes) {
          Layout l{.tp = tp, .cp = cp, .ep = ep, .recompute = recompute};
          if (tp * cp * ep > devices || !why_not(spec, config, l).empty()) continue;
          add_layouts(config, spec, table, devices, wanted, l, exec, plans);
        }
  std::stable_sort(plans.begin(), plans.end(),
                   [](const LayoutPlan& a, const LayoutPlan& b) { return a.bytes < b.bytes; });
  return plans;
}

}  // namespace llmctl
