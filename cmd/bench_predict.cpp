// SPDX-License-Identifier: Apache-2.0
#include "cmd/bench_predict.h"

#include <fmt/format.h>

#include <chrono>

namespace llmctl {
namespace {

using Clock = std::chrono::steady_clock;
using enum WorkKind;

constexpr int kRuns = 3;        // of the calibrating measurement, after one to warm up
constexpr double kPiece = 256;  // tokens of a prompt in one pass (EngineOptions::step_tokens)

// Seconds of an op without work: threads are woken, meet and part.
double empty_op(const kn::Exec& exec) {
  constexpr int kOps = 1000;
  std::vector<double> seconds;
  for (int i = 0; i < 5; ++i) {
    const auto start = Clock::now();
    for (int op = 0; op < kOps; ++op) kn::parallel_for(exec, 2 * exec.pool->threads(), [](int64_t) {});
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count() / kOps);
  }
  return median_of(std::move(seconds));
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

Prediction predicted(const Cost& cost, Probes probes, const Shares& shares) {
  const double seconds = seconds_of(cost, probes, shares);
  probes.op_seconds = 0;
  return {seconds, seconds_of(cost, probes, Shares{})};
}

}  // namespace

Probes Predictor::probes(Bench& machine, DType products, double working_set) {
  double& op = op_seconds_[machine.exec.pool->threads()];
  if (op == 0) op = empty_op(machine.exec);
  return {machine.peak(products), machine.peak(DType::bf16), machine.bandwidth(working_set), op};
}

void Predictor::add_rates(const std::string& phase, const Shares& shares, const Probes& p) {
  for (int k = 0; k < kWorkKinds; ++k) {
    const auto kind = static_cast<WorkKind>(k);
    const Share& s = shares[kind];
    const double peak = kind == WorkKind::products || kind == gradients ? p.products : p.flops;
    const std::string name = fmt::format("rate: {}, {}", phase, name_of(kind));
    if (s.flops != 1) bench_.add(name, s.flops * peak / 1e9, "GFLOP/s", peak / 1e9);
    if (s.bytes != 1) bench_.add(name, s.bytes * p.bytes / 1e9, "GB/s", p.bytes / 1e9);
  }
}

void Predictor::calibrate_training(const Calibration& c) {
  OpTimes times;
  kn::Exec traced = bench_.exec;
  traced.trace = &times;
  Stepper s(step_config(c.sequences, c.seq, 1, true),
            bench_spec(c.size, DType::bf16, bench_.options.order, Purpose::training), traced);
  s.step();
  std::vector<KindSeconds> runs;
  for (int i = 0; i < kRuns; ++i) {
    times = {};
    const double wall = s.step();
    runs.push_back(kind_seconds(times, wall, activations));
  }
  const ModelSpec& m = s.trainer.model().spec();
  const Probes p = probes(bench_, DType::bf16, 1e18);
  calibrate(training_,
            training_cost(cost_shape(m.config, m.table()), static_cast<double>(c.sequences),
                          static_cast<double>(c.seq)),
            medians(runs), p);
  add_rates("training", training_, p);
}

void Predictor::calibrate_generation(const Calibration& c, const Storage& storage) {
  OpTimes times, first;
  kn::Exec traced = bench_.exec;
  traced.trace = &times;
  const int64_t prompt = 2 * c.seq, context = prompt + c.decoded + 2;
  const auto model = made_up_model(bench_spec(c.size, DType::bf16, bench_.options.order, Purpose::inference),
                                   storage.bits, context, bench_.exec);
  const auto engine = make_engine(*model, {.context = context, .max_batch = 1}, traced);
  std::vector<KindSeconds> prompts, steps;
  for (int i = 0; i <= kRuns; ++i) {
    times = {};
    const CrowdResult r = run_crowd(*engine, 1, prompt, c.decoded, i, [&] {
      first = times;
      times = {};
    });
    if (i == 0) continue;
    prompts.push_back(kind_seconds(first, r.first_seconds, sampling));
    prompts.back()[sampling] = 0;  // of many tokens, below
    steps.push_back(kind_seconds(times, c.decoded / r.tokens_per_second, sampling));
    steps.back()[activations] = 0;  // hardly any in one row
    for (double& seconds : steps.back().values) seconds /= c.decoded;
  }
  const ModelSpec& m = model->spec();
  const CostShape shape = cost_shape(m.config, m.table(), decode_bytes(*model));
  const Probes p = probes(bench_, storage.products(), shape.weight_bytes);
  Shares& shares = generation_[storage.name];
  calibrate(shares, prefill_cost(shape, static_cast<double>(prompt), kPiece), medians(prompts), p);
  calibrate(shares, decode_cost(shape, 1, static_cast<double>(prompt) + c.decoded / 2.0), medians(steps), p);
  add_rates("inference " + std::string(storage.name), shares, p);
}

void Predictor::calibrate_on(const Calibration& c) {
  bench_.log.line("calibrating on " + c.size);
  if (c.trains) calibrate_training(c);
  for (const Storage& s : c.storages) calibrate_generation(c, s);
}

Prediction Predictor::training(Bench& machine, const CostShape& shape, double sequences, double seq,
                               double working_set) {
  return predicted(training_cost(shape, sequences, seq), probes(machine, DType::bf16, working_set),
                   training_);
}

Prediction Predictor::prefill(Bench& machine, const CostShape& shape, const Storage& storage, double tokens,
                              double working_set) {
  return predicted(prefill_cost(shape, tokens, kPiece), probes(machine, storage.products(), working_set),
                   generation_[storage.name]);
}

Prediction Predictor::decode(Bench& machine, const CostShape& shape, const Storage& storage, double sequences,
                             double depth, double working_set) {
  return predicted(decode_cost(shape, sequences, depth), probes(machine, storage.products(), working_set),
                   generation_[storage.name]);
}

}  // namespace llmctl
