// SPDX-License-Identifier: Apache-2.0
// How cost grows with parameters, context, threads and batch: each point beside what bench_cost.h predicts
// for it from the probes and one calibrating measurement, and its memory beside the plan.
//
// A point runs once to warm up (the first run waits for the system's pages) and three times more (medians);
// one that takes longer than kLong is not repeated, one longer than kCold runs once.
// What does not fit in nine tenths of the memory that is available, or is predicted to take longer than
// kMost, is a row that says so.
#include <fmt/format.h>

#include <algorithm>

#include "cmd/bench_predict.h"
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/base/signal.h"
#include "parallel/plan.h"

namespace llmctl {
namespace {

constexpr double kLong = 10, kCold = 60, kMost = 300, kMostQuick = 20;  // seconds

// What a point is called and where it lies.
struct Place {
  std::string axis;
  double at = 0;
  std::string text;  // "context 4096"
  BenchRow row(const std::string& curve, const std::string& what, double tokens, const Prediction& p) const {
    return {.name = fmt::format("{}: {} {}", text, curve, what),
            .unit = "tokens/s",
            .limit = tokens / p.limit,
            .axis = axis,
            .curve = curve,
            .at = at,
            .predicted = tokens / p.seconds};
  }
};

struct Generation {
  int clients;
  int64_t prompt;
  int tokens;
  int64_t context() const { return prompt + tokens + 2; }
};

// f() until it has run three times after the first, or for kLong seconds; the first alone if that took kCold.
void repeat(const std::function<void()>& f, const std::function<void()>& forget_first) {
  auto start = Clock::now();
  f();
  if (seconds_since(start) > kCold) return;
  forget_first();
  start = Clock::now();
  for (int i = 0; i < 3 && seconds_since(start) < kLong; ++i) f();
}

std::string too_long(int64_t tokens, const ModelSpec& model) {
  return tokens > model.config.positions ? fmt::format("the model has {} positions", model.config.positions)
                                         : "";
}

class Sweep {
 public:
  explicit Sweep(Bench& bench) : bench_(bench), quick_(bench.quick), predictor_(bench) {
    predictor_.calibrate_on({quick_ ? "10M" : "124M", std::min<int64_t>(sequences(), 8), std::min<int64_t>(seq(), 1024), decoded(), trains(), storages()});
  }
  void run(const std::string& axis) {
    if (axis == "params") params();
    if (axis == "context") context();
    if (axis == "threads") threads();
    if (axis == "batch") batch();
  }

 private:
  void params();
  void context();
  void threads();
  void batch();
  // `machine` has the threads of the point; rows go to bench_.
  void train(Bench& machine, const Place& place, const std::string& size, int64_t sequences, int64_t seq);
  void generate(Bench& machine, const Place& place, const std::string& size, const Generation& g,
                bool prefill) {
    for (const Storage& s : storages()) generate(machine, place, size, g, prefill, s);
  }
  void generate(Bench& machine, const Place& place, const std::string& size, const Generation& g,
                bool prefill, const Storage& storage);
  void run_generation(Bench& machine, const ModelSpec& model, const Storage& storage, const Generation& g,
                      int64_t keys, std::vector<BenchRow> rows);
  void finish(BenchRow row, double value);
  bool skip(const std::vector<BenchRow>& rows, double seconds, std::string why);

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
  Predictor predictor_;
};

// ---------------------------------------------------------------- a point
void Sweep::finish(BenchRow row, double value) {
  row.value = value;
  bench_.log.line(fmt::format("{}: {:.4g} tokens/s, {:.4g} predicted", row.name, value, row.predicted));
  bench_.add(std::move(row));
}

// Rows that will not run say why.
bool Sweep::skip(const std::vector<BenchRow>& rows, double seconds, std::string why) {
  // A tenth is left to the rest of the machine.
  const int64_t available = available_bytes(), bytes = rows.front().planned_bytes;
  if (why.empty() && available > 0 && bytes > available / 10 * 9)
    why = fmt::format("{} planned, {} available", human_bytes(bytes), human_bytes(available));
  if (why.empty() && seconds > (quick_ ? kMostQuick : kMost))
    why = fmt::format("{:.0f} s predicted", seconds);
  if (why.empty()) return false;
  for (BenchRow row : rows) {
    row.skipped = why;
    bench_.log.line(row.name + ": skipped, " + why);
    bench_.add(std::move(row));
  }
  return true;
}

void Sweep::train(Bench& machine, const Place& place, const std::string& size, int64_t sequences,
                  int64_t seq) {
  if (!trains()) return;
  stop_if_interrupted("bench");
  const ModelSpec model = spec(size, Purpose::training);
  const TrainConfig config = step_config(sequences, seq, 1, true);
  const std::string why = too_long(seq, model);
  std::vector<MemoryLine> lines;
  if (why.empty()) lines = plan_here(config, model, machine.exec);
  std::erase_if(lines, [](const MemoryLine& l) { return l.what == "checkpoint buffer"; });  // none is written
  const auto bytes = static_cast<double>(total_bytes(lines)), tokens = static_cast<double>(sequences * seq);
  const Prediction p = predictor_.training(machine, cost_shape(model.config, model.table()),
                                           static_cast<double>(sequences), static_cast<double>(seq), bytes);
  BenchRow row = place.row("train", fmt::format("{} bf16, {} x {}", size, sequences, seq), tokens, p);
  row.planned_bytes = total_bytes(lines);
  if (skip({row}, p.seconds, why)) return;
  const bool counted = reset_peak_resident();
  Stepper s(config, model, machine.exec);
  std::vector<double> seconds;
  repeat([&] { seconds.push_back(s.step()); }, [&] { seconds.clear(); });
  if (counted) row.peak_bytes = peak_resident_bytes();
  finish(std::move(row), tokens / median_of(seconds));
}

// Rows: decode alone, or prefill and decode.
void Sweep::run_generation(Bench& machine, const ModelSpec& model_spec, const Storage& storage,
                           const Generation& g, int64_t keys, std::vector<BenchRow> rows) {
  const int64_t base = resident_bytes(), context = g.context();
  const auto model = made_up_model(model_spec, storage.bits, context, machine.exec);
  const auto engine =
      make_engine(*model, {.context = context, .max_batch = g.clients, .kv_bytes = keys}, machine.exec);
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
  for (BenchRow& row : rows) {
    row.planned_bytes = base + model->bytes() + engine->stats().bytes;
    if (counted) row.peak_bytes = peak_resident_bytes();
  }
  if (rows.size() == 2) finish(rows.front(), static_cast<double>(g.prompt) / median_of(prompts));
  finish(rows.back(), median_of(rates));
}

void Sweep::generate(Bench& machine, const Place& place, const std::string& size, const Generation& g,
                     bool prefill, const Storage& storage) {
  stop_if_interrupted("bench");
  const ModelSpec model = spec(size, Purpose::inference);
  const DecoderConfig& c = model.config;
  CostShape shape = cost_shape(c, model.table());
  if (storage.bits != 0) shape.weight_bytes *= storage.bits / 16.0 + 1.0 / 32;  // scales of groups of 64
  const int64_t keys = (g.context() + kn::kPageTokens - 1) / kn::kPageTokens * g.clients * 2 * c.layers *
                       c.kv_heads * kn::kv_page_elements(DType::bf16, c.head_dim) * kn::size_of(DType::bf16);
  const double working_set = shape.weight_bytes + static_cast<double>(keys);
  const Prediction first =
      predictor_.prefill(machine, shape, storage, static_cast<double>(g.prompt), working_set);
  const Prediction next = predictor_.decode(machine, shape, storage, g.clients,
                                            static_cast<double>(g.prompt) + g.tokens / 2.0, working_set);
  std::vector<BenchRow> rows;
  if (prefill)
    rows.push_back(place.row(fmt::format("prefill {}", storage.name),
                             fmt::format("{}, {} tokens", size, g.prompt), static_cast<double>(g.prompt),
                             first));
  rows.push_back(place.row(fmt::format("decode {}", storage.name),
                           fmt::format("{}, {} at depth {}", size, g.clients, g.prompt), g.clients, next));
  std::string why = too_long(g.context(), model);
  const int64_t bytes =
      why.empty() ? resident_bytes() + keys + made_up_bytes(model, storage.bits, g.context(), machine.exec)
                  : 0;
  for (BenchRow& row : rows) row.planned_bytes = bytes;
  if (!skip(rows, g.clients * first.seconds + g.tokens * next.seconds, why))
    run_generation(machine, model, storage, g, keys, std::move(rows));
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
  for (const std::string& axis : bench.options.axes.empty() ? kBenchAxes : bench.options.axes)
    sweep.run(axis);
}

}  // namespace llmctl
