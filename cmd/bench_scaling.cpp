// SPDX-License-Identifier: Apache-2.0
// How cost grows with parameters, context, threads and batch: each point beside what bench_cost.h predicts
// for it from the probes and one calibrating measurement, and its memory beside the plan.
//
// A point runs once to warm up and three times more (medians); one that takes longer than kLong runs once.
// What does not fit in the memory that is available, or is predicted to take longer than kMost, is a row
// that says so.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "cmd/bench_cost.h"
#include "cmd/bench_runs.h"
#include "core/base/signal.h"
#include "parallel/plan.h"

namespace llmctl {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr int kRuns = 3;                   // of the calibrating measurement
constexpr double kLong = 10, kMost = 300;  // seconds
constexpr double kPiece = 256;             // tokens of a prompt in one pass (EngineOptions::step_tokens)

// Seconds of an op without work: threads are woken, meet and part.
double empty_op(const kn::Exec& exec) {
  constexpr int kOps = 1000;
  std::vector<double> seconds;
  for (int i = 0; i < 5; ++i) {
    const auto start = Clock::now();
    for (int op = 0; op < kOps; ++op) kn::parallel_for(exec, 2 * exec.pool->threads(), [](int64_t) {});
    seconds.push_back(seconds_since(start) / kOps);
  }
  return median_of(std::move(seconds));
}

// What a point is called and where it lies.
struct Place {
  std::string axis;
  double at = 0;
  std::string text;  // "context 4096"
  BenchRow row(const std::string& curve, const std::string& what) const {
    return {.name = fmt::format("{}: {} {}", text, curve, what), .unit = "tokens/s", .axis = axis, .curve = curve, .at = at};
  }
};

struct Generation {
  int clients;
  int64_t prompt;
  int tokens;
};

// f() until it has run three times after the first, or for kLong seconds.
void repeat(const std::function<void()>& f, const std::function<void()>& forget_first) {
  auto start = Clock::now();
  f();
  if (seconds_since(start) > kLong) return;
  forget_first();
  start = Clock::now();
  for (int i = 0; i < 3 && seconds_since(start) < kLong; ++i) f();
}

KindSeconds medians(const std::vector<KindSeconds>& runs) {
  KindSeconds out;
  for (size_t k = 0; k < out.values.size(); ++k) {
    std::vector<double> seconds;
    for (const KindSeconds& r : runs) seconds.push_back(r.values[k]);
    out.values[k] = median_of(std::move(seconds));
  }
  return out;
}

class Sweep {
 public:
  explicit Sweep(Bench& bench) : bench_(bench), quick_(bench.quick) {}
  void run(const std::string& axis) {
    if (axis == "params") params();
    if (axis == "context") context();
    if (axis == "threads") threads();
    if (axis == "batch") batch();
  }
  void calibrate_all();

 private:
  void params();
  void context();
  void threads();
  void batch();
  void calibrate_training(const std::string& size);
  void calibrate_generation(const std::string& size, const Storage& storage);
  void add_rates(const std::string& phase, const Shares& shares, const Probes& probes, std::initializer_list<WorkKind> kinds);
  // `machine` has the threads of the point; rows go to bench_.
  void train(Bench& machine, const Place& place, const std::string& size, int64_t sequences, int64_t seq);
  void generate(Bench& machine, const Place& place, const std::string& size, const Generation& g, bool prefill);
  void generate(Bench& machine, const Place& place, const std::string& size, const Generation& g, bool prefill,
                const Storage& storage);
  Probes probes(Bench& machine, DType products, double working_set);
  void finish(BenchRow row, double value);
  bool skip(std::vector<BenchRow> rows, int64_t bytes, double seconds, const std::string& other = "");

  std::vector<Storage> storages() const {  // bf16 unless others are asked for
    std::vector<Storage> out;
    for (const Storage& s : kStorages)
      if (bench_.options.dtypes.empty() ? s.bits == 0 : bench_.options.wants(s.name)) out.push_back(s);
    return out;
  }
  bool trains() const { return bench_.options.wants("bf16"); }
  ModelSpec spec(const std::string& size, Purpose purpose) const {
    return bench_spec(size, DType::bf16, bench_.options.order, purpose);
  }
  int64_t seq() const { return bench_.options.tokens_or(quick_ ? 128 : 256); }
  int64_t sequences() const { return bench_.options.batch_or(2); }
  int decoded() const { return quick_ ? 16 : 32; }

  Bench& bench_;
  const bool quick_;
  std::map<int, double> op_seconds_;  // by threads
  Shares training_;
  std::map<std::string, Shares> generation_;  // by storage
};

Probes Sweep::probes(Bench& machine, DType products, double working_set) {
  double& op = op_seconds_[machine.exec.pool->threads()];
  if (op == 0) op = empty_op(machine.exec);
  return {machine.peak(products), machine.peak(DType::bf16), machine.bandwidth(working_set), op};
}

// ---------------------------------------------------------------- the calibrating measurement
void Sweep::add_rates(const std::string& phase, const Shares& shares, const Probes& probes,
                      std::initializer_list<WorkKind> kinds) {
  for (WorkKind kind : kinds) {
    const Share& s = shares[kind];
    const double peak = kind == WorkKind::products || kind == WorkKind::gradients ? probes.products : probes.flops;
    if (s.flops != 1)
      bench_.add(fmt::format("rate: {}, {}", phase, name_of(kind)), s.flops * peak / 1e9, "GFLOP/s", peak / 1e9);
    if (s.bytes != 1)
      bench_.add(fmt::format("rate: {}, {}", phase, name_of(kind)), s.bytes * probes.bytes / 1e9, "GB/s", probes.bytes / 1e9);
  }
}

void Sweep::calibrate_training(const std::string& size) {
  OpTimes times;
  kn::Exec traced = bench_.exec;
  traced.trace = &times;
  Stepper s(step_config(sequences(), seq(), 1, true), spec(size, Purpose::training), traced);
  s.step();
  std::vector<KindSeconds> runs;
  for (int i = 0; i < kRuns; ++i) {
    times = {};
    const double wall = s.step();
    runs.push_back(kind_seconds(times, wall, WorkKind::activations));
  }
  const KindSeconds measured = medians(runs);
  const ModelSpec& m = s.trainer.model().spec();
  const Probes p = probes(bench_, DType::bf16, 1e18);
  calibrate(training_, training_cost(cost_shape(m.config, m.table()), static_cast<double>(sequences()), static_cast<double>(seq())),
            measured, p);
  using enum WorkKind;
  add_rates("training", training_, p, {products, gradients, attention, attention_backward, loss, optimiser, activations});
}

void Sweep::calibrate_generation(const std::string& size, const Storage& storage) {
  OpTimes times, first;
  kn::Exec traced = bench_.exec;
  traced.trace = &times;
  const int64_t prompt = 2 * seq();
  const int tokens = decoded();
  const auto model = made_up_model(spec(size, Purpose::inference), storage.bits, prompt + tokens + 2, bench_.exec);
  const auto engine = make_engine(*model, {.context = prompt + tokens + 2, .max_batch = 1}, traced);
  using enum WorkKind;
  std::vector<KindSeconds> prompts, steps;
  for (int i = 0; i <= kRuns; ++i) {
    times = {};
    const CrowdResult r = run_crowd(*engine, 1, prompt, tokens, i, [&] {
      first = times;
      times = {};
    });
    if (i == 0) continue;  // to warm up
    prompts.push_back(kind_seconds(first, r.first_seconds, sampling));
    prompts.back()[sampling] = 0;  // of many tokens, below
    steps.push_back(kind_seconds(times, tokens / r.tokens_per_second, sampling));
    steps.back()[activations] = 0;  // hardly any in one row
    for (double& seconds : steps.back().values) seconds /= tokens;
  }
  const ModelSpec& m = model->spec();
  const CostShape shape = cost_shape(m.config, m.table(), decode_bytes(*model));
  const Probes p = probes(bench_, storage.products(), shape.weight_bytes);
  Shares& shares = generation_[storage.name];
  calibrate(shares, prefill_cost(shape, static_cast<double>(prompt), kPiece), medians(prompts), p);
  calibrate(shares, decode_cost(shape, 1, static_cast<double>(prompt) + tokens / 2.0), medians(steps), p);
  add_rates("inference " + std::string(storage.name), shares, p, {products, attention, activations, sampling});
}

void Sweep::calibrate_all() {
  const std::string size = quick_ ? "10M" : "124M";
  bench_.log.line("calibrating on " + size);
  if (trains()) calibrate_training(size);
  for (const Storage& s : storages()) calibrate_generation(size, s);
}

// ---------------------------------------------------------------- a point
void Sweep::finish(BenchRow row, double value) {
  row.value = value;
  bench_.log.line(fmt::format("{}: {:.4g} tokens/s, {:.4g} predicted", row.name, value, row.predicted));
  bench_.add(std::move(row));
}

bool Sweep::skip(std::vector<BenchRow> rows, int64_t bytes, double seconds, const std::string& other) {
  const int64_t available = available_bytes();
  std::string why = other;
  if (why.empty() && available > 0 && bytes > available)
    why = fmt::format("{} planned, {} available", human_bytes(bytes), human_bytes(available));
  if (why.empty() && seconds > kMost) why = fmt::format("{:.0f} s predicted", seconds);
  if (why.empty()) return false;
  for (BenchRow& row : rows) {
    row.skipped = why;
    bench_.log.line(row.name + ": skipped, " + why);
    bench_.add(std::move(row));
  }
  return true;
}

void Sweep::train(Bench& machine, const Place& place, const std::string& size, int64_t sequences, int64_t seq) {
  if (!trains()) return;
  stop_if_interrupted("bench");
  const ModelSpec model = spec(size, Purpose::training);
  const TrainConfig config = step_config(sequences, seq, 1, true);
  BenchRow row = place.row("train", fmt::format("{} bf16, {} x {}", size, sequences, seq));
  if (seq > model.config.positions) {
    skip({row}, 0, 0, fmt::format("{} has {} positions", size, model.config.positions));
    return;
  }
  std::vector<MemoryLine> lines = plan_here(config, model, machine.exec);
  std::erase_if(lines, [](const MemoryLine& l) { return l.what == "checkpoint buffer"; });
  row.planned_bytes = total_bytes(lines);
  const Cost cost = training_cost(cost_shape(model.config, model.table()), static_cast<double>(sequences), static_cast<double>(seq));
  const Probes p = probes(machine, DType::bf16, static_cast<double>(row.planned_bytes));
  const auto tokens = static_cast<double>(sequences * seq);
  const double predicted = seconds_of(cost, p, training_);
  row.predicted = tokens / predicted;
  row.limit = tokens / seconds_of(cost, p, Shares{});
  if (skip({row}, row.planned_bytes, predicted)) return;
  const bool counted = reset_peak_resident();
  Stepper s(config, model, machine.exec);
  std::vector<double> seconds;
  repeat([&] { seconds.push_back(s.step()); }, [&] { seconds.clear(); });
  if (counted) row.peak_bytes = peak_resident_bytes();
  finish(std::move(row), tokens / median_of(seconds));
}

void Sweep::generate(Bench& machine, const Place& place, const std::string& size, const Generation& g, bool prefill) {
  for (const Storage& s : storages()) generate(machine, place, size, g, prefill, s);
}

void Sweep::generate(Bench& machine, const Place& place, const std::string& size, const Generation& g, bool prefill,
                     const Storage& storage) {
  stop_if_interrupted("bench");
  const ModelSpec model_spec = spec(size, Purpose::inference);
  const DecoderConfig& c = model_spec.config;
  const int64_t context = g.prompt + g.tokens + 2;
  BenchRow first = place.row(fmt::format("prefill {}", storage.name), fmt::format("{}, {} tokens", size, g.prompt));
  BenchRow next = place.row(fmt::format("decode {}", storage.name),
                            fmt::format("{}, {} at depth {}", size, g.clients, g.prompt));
  std::vector<BenchRow> both = {next};
  if (prefill) both.insert(both.begin(), first);
  if (context > c.positions) {
    skip(both, 0, 0, fmt::format("{} has {} positions", size, c.positions));
    return;
  }
  const int64_t page = 2 * c.layers * c.kv_heads * kn::kv_page_elements(DType::bf16, c.head_dim) * 2;
  const int64_t keys = g.clients * ((context + kn::kPageTokens - 1) / kn::kPageTokens) * page;
  const int64_t base = resident_bytes();
  const int64_t rough = base + keys + made_up_bytes(model_spec, storage.bits, context, machine.exec);
  CostShape shape = cost_shape(c, model_spec.table());
  if (storage.bits != 0) shape.weight_bytes *= storage.bits / 16.0 + 1.0 / 32;  // scales of groups of 64
  const double depth = static_cast<double>(g.prompt) + g.tokens / 2.0;
  const Probes p = probes(machine, storage.products(), shape.weight_bytes + static_cast<double>(keys));
  const Cost prompt_cost = prefill_cost(shape, static_cast<double>(g.prompt), kPiece), token_cost = decode_cost(shape, g.clients, depth);
  const Shares& shares = generation_[storage.name];
  const double prompt_seconds = seconds_of(prompt_cost, p, shares), token_seconds = seconds_of(token_cost, p, shares);
  first.predicted = static_cast<double>(g.prompt) / prompt_seconds;
  first.limit = static_cast<double>(g.prompt) / seconds_of(prompt_cost, p, Shares{});
  next.predicted = g.clients / token_seconds;
  next.limit = g.clients / seconds_of(token_cost, p, Shares{});
  for (BenchRow& row : both) {
    row.planned_bytes = rough;
    row.predicted = row.curve == first.curve ? first.predicted : next.predicted;
  }
  if (skip(both, rough, g.clients * prompt_seconds + g.tokens * token_seconds)) return;
  const auto model = made_up_model(model_spec, storage.bits, context, machine.exec);
  const auto engine = make_engine(*model, {.context = context, .max_batch = g.clients, .kv_bytes = keys}, machine.exec);
  first.planned_bytes = next.planned_bytes = base + model->bytes() + engine->stats().bytes;
  const bool counted = reset_peak_resident();
  std::vector<double> prompts, rates;
  int64_t salt = 0;
  repeat(
      [&] {
        const CrowdResult r = run_crowd(*engine, g.clients, g.prompt, g.tokens, ++salt);
        prompts.push_back(r.first_seconds);
        rates.push_back(r.tokens_per_second);
      },
      [&] { prompts.clear(), rates.clear(); });
  if (counted) first.peak_bytes = next.peak_bytes = peak_resident_bytes();
  if (prefill) finish(std::move(first), static_cast<double>(g.prompt) / median_of(prompts));
  finish(std::move(next), median_of(rates));
}

// ---------------------------------------------------------------- the axes
void Sweep::params() {
  std::vector<std::string> sizes = {"10M", "30M", "124M", "350M", "1.1B", "1.5B"};
  if (quick_) sizes = {"3M", "10M", "30M"};
  if (!bench_.options.model.empty()) sizes = {bench_.options.model};
  for (const std::string& size : sizes) {
    const ModelSpec model = spec(size, Purpose::inference);
    const Place place{"params", static_cast<double>(parameter_count(model.table())), "params"};
    train(bench_, place, size, sequences(), seq());
    generate(bench_, place, size, {1, seq(), decoded()}, true);
  }
}

void Sweep::context() {
  const std::string size = bench_.options.model_or(quick_ ? "3M" : "30M");
  for (int64_t tokens : {256, 1024, 2048, 4096, 8192, 16384, 32768}) {
    if (tokens > (quick_ ? 1024 : 32768)) break;
    const Place place{"context", static_cast<double>(tokens), fmt::format("context {}", tokens)};
    train(bench_, place, size, 1, tokens);
    generate(bench_, place, size, {1, tokens, decoded()}, true);
  }
}

void Sweep::threads() {
  const std::string size = bench_.options.model_or(quick_ ? "10M" : "124M");
  const int most = bench_.exec.pool->threads();
  for (int n = 1;; n = std::min(2 * n, most)) {
    kn::ThreadPool pool(n);
    kn::Exec exec = bench_.exec;
    exec.pool = &pool;
    Bench machine(exec, bench_.log, bench_.options);
    const Place place{"threads", static_cast<double>(n), fmt::format("threads {}", n)};
    train(machine, place, size, sequences(), seq());
    generate(machine, place, size, {1, seq(), decoded()}, true);
    if (n == most) break;
  }
}

void Sweep::batch() {
  const std::string size = bench_.options.model_or(quick_ ? "10M" : "124M");
  for (int64_t n : {1, 2, 4, 8, 16, 32, 64}) {
    if (n > bench_.options.batch_or(quick_ ? 16 : 64)) break;
    const Place place{"batch", static_cast<double>(n), fmt::format("batch {}", n)};
    if (n <= 16) train(bench_, place, size, n, seq() / 2);
    generate(bench_, place, size, {static_cast<int>(n), 8, decoded()}, false);
  }
}

}  // namespace

void bench_scaling(Bench& bench) {
  Sweep sweep(bench);
  sweep.calibrate_all();
  for (const std::string& axis : bench.options.axes.empty() ? kBenchAxes : bench.options.axes) sweep.run(axis);
}

}  // namespace llmctl
