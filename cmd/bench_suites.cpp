// SPDX-License-Identifier: Apache-2.0
// Suites over whole models: a training step, prefill, decode, the price of the contract, serving.
// Integer products are compared with the bf16 peak, the widest arithmetic that has a probe.
#include <fmt/format.h>

#include <chrono>
#include <future>
#include <utility>

#include "cmd/bench.h"
#include "core/base/signal.h"
#include "core/engine/load.h"
#include "core/train/run.h"

namespace llmctl {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

TrainConfig step_config(int64_t sequences, int64_t seq, int64_t units, const std::string& accumulate, bool digest) {
  TrainConfig c;
  c.unit = {sequences, seq};
  c.batch.units = units;
  c.numerics = {"bf16", "pair", accumulate, digest};
  return c;
}

// A trainer, the config it points to, and its steps so far.
struct Stepper {
  Stepper(TrainConfig config_, ModelSpec spec, const kn::Exec& exec)
      : config(std::move(config_)),
        source(config.unit.sequences, config.unit.seq_len, spec.config.vocab),
        trainer(config, std::move(spec), exec) {
    trainer.allocate();
    trainer.model().initialise(1);
  }
  double step() {
    stop_if_interrupted("bench");
    const auto start = Clock::now();
    trainer.step(source, steps++);
    return seconds_since(start);
  }
  TrainConfig config;
  MadeUpTokens source;
  Trainer trainer;
  int64_t steps = 0;
};

void train_step(Bench& bench, const std::string& size, int64_t sequences, int64_t seq) {
  Stepper s(step_config(sequences, seq, 1, "fixed", true), bench_spec(size, DType::bf16, bench.options.order, Purpose::training),
            bench.exec);
  const double seconds = bench.median([&] { s.step(); });
  const double flops = training_flops_per_token(s.trainer.model().spec().config,
                                                s.trainer.model().parameters().table(), seq);
  bench.add(fmt::format("train {} bf16, step of {} x {}", size, sequences, seq),
            static_cast<double>(sequences * seq) / seconds, "tokens/s", bench.peak(DType::bf16) / flops);
}

GenerationRequest request_of(int64_t prompt, int tokens, int64_t salt) {
  GenerationRequest r;
  for (int64_t i = 0; i < prompt; ++i) r.prompt.push_back(static_cast<int32_t>((salt * 131 + i * 37) % 1999 + 3));
  r.sampling.temperature = 0;
  r.sampling.max_tokens = tokens;
  r.sampling.ignore_eos = true;
  return r;
}

// Tokens/s of so many requests that decode together, from when all have had their first token.
double decode_rate(GenerationEngine& engine, int clients, int tokens, int64_t salt) {
  struct {
    int unseen, running;
    int64_t counted = 0;
    Clock::time_point start{};
    std::string error;
    std::promise<double> rate;
  } crowd{.unseen = clients,
          .running = clients};  // the sinks' own until the rate is set: all are called on one thread
  for (int c = 0; c < clients; ++c) {
    GenerationRequest r = request_of(8, tokens + 1, salt * 1024 + c);
    r.sink = [&crowd, first = true](const TokenOut& t) mutable {
      if (t.id >= 0 && !first && crowd.unseen == 0) ++crowd.counted;
      if (std::exchange(first, false) && --crowd.unseen == 0) crowd.start = Clock::now();
      if (t.finish == Finish::failed) crowd.error = t.error;
      if (t.finish != Finish::none && --crowd.running == 0)
        crowd.rate.set_value(static_cast<double>(crowd.counted) / seconds_since(crowd.start));
      return !interrupted();
    };
    engine.submit(std::move(r));
  }
  const double rate = crowd.rate.get_future().get();
  stop_if_interrupted("bench");
  check(crowd.error.empty() && crowd.counted > 0, Code::bug, "[bench] nothing was decoded ", crowd.error);
  return rate;
}

struct Storage {
  const char* name;
  int bits;
};
constexpr Storage kStorages[] = {{"bf16", 0}, {"int8", 8}, {"int4", 4}};

std::string inference_size(const Bench& bench) {
  return bench.options.model_or(bench.quick ? "3M" : "124M");
}
ModelSpec inference_spec(const std::string& size, const Bench& bench) {
  return bench_spec(size, DType::bf16, bench.options.order, Purpose::inference);
}

// FLOPs of a token's way through the blocks, and through the head where its logits are wanted.
double forward_flops(const Model& model, int64_t tokens, bool head) {
  const DecoderConfig& c = model.spec().config;
  const double all = training_flops_per_token(c, model.parameters().table(), tokens) / 3;
  return head ? all : all - 2.0 * static_cast<double>(c.vocab * c.hidden);
}
DType products_of(const Storage& s) { return s.bits == 0 ? DType::bf16 : DType::i8; }

// Tokens/s at most: weights are read once a step for all clients; the arithmetic is done for each.
double together_limit(Bench& bench, const Model& model, DType products, int clients, int tokens) {
  const double reading = clients * bench.bandwidth() / decode_bytes(model);
  if (clients == 1) return reading;
  return std::min(reading, bench.peak(products) / forward_flops(model, tokens, true));
}

double seconds_of_crowd(GenerationEngine& engine, int clients, int tokens, int64_t salt) {
  std::vector<std::promise<void>> ended(static_cast<size_t>(clients));
  const auto start = Clock::now();
  for (int c = 0; c < clients; ++c) {
    GenerationRequest r = request_of(16, tokens, salt * 64 + c);
    r.sink = [&, c](const TokenOut& t) {
      if (t.finish != Finish::none) ended[static_cast<size_t>(c)].set_value();
      return true;
    };
    engine.submit(std::move(r));
  }
  for (auto& e : ended) e.get_future().wait();
  return seconds_since(start);
}

}  // namespace

void bench_train(Bench& bench) {
  const BenchOptions& o = bench.options;
  if (o.model.empty()) train_step(bench, "3M", 8, 128);
  if (!bench.quick || !o.model.empty())
    train_step(bench, o.model_or("124M"), o.batch_or(4), o.tokens_or(256));
}

void bench_prefill(Bench& bench) {
  const std::string size = inference_size(bench);
  const int64_t tokens = bench.options.tokens_or(512), context = std::max<int64_t>(1024, tokens + 1);
  for (const Storage& s : kStorages) {
    if (!bench.options.wants(s.name)) continue;
    const auto model = made_up_model(inference_spec(size, bench), s.bits, context, bench.exec);
    const auto engine = make_engine(*model, {.context = context, .max_batch = 1}, bench.exec);
    int64_t salt = 0;  // no prompt is seen twice: nothing comes from a prefix kept
    const double seconds = bench.median([&] { complete(*engine, request_of(tokens, 1, ++salt)); });
    bench.add(fmt::format("prefill {} {}, {} tokens", size, s.name, tokens), static_cast<double>(tokens) / seconds,
              "tokens/s", bench.peak(products_of(s)) / forward_flops(*model, tokens, false));
  }
}

void bench_decode(Bench& bench) {
  const std::string size = inference_size(bench);
  const int clients = static_cast<int>(bench.options.batch_or(1)),
            tokens = static_cast<int>(bench.options.tokens_or(64));
  const int64_t context = std::max<int64_t>(1024, tokens + 16);
  for (const Storage& s : kStorages) {
    if (!bench.options.wants(s.name)) continue;
    const auto model = made_up_model(inference_spec(size, bench), s.bits, context, bench.exec);
    const auto engine = make_engine(*model, {.context = context, .max_batch = clients}, bench.exec);
    std::vector<double> rates;
    for (int64_t i = 0; i < 3; ++i) rates.push_back(decode_rate(*engine, clients, tokens, i));
    bench.add(fmt::format("decode {} {}, {}{} tokens", size, s.name,
                          clients > 1 ? fmt::format("{} x ", clients) : "", tokens),
              median_of(rates), "tokens/s", together_limit(bench, *model, products_of(s), clients, tokens));
  }
}

void bench_numerics(Bench& bench) {
  struct Order {
    const char* name;
    int leaves;
    const char* accumulate;
    bool digest;
  };
  constexpr Order orders[] = {{"plain order (1 leaf, fp32 sums, no digest)", 1, "f32", false},
                              {"8 leaves", 8, "f32", false},
                              {"fixed-point gradients", 1, "fixed", false},
                              {"digest", 1, "f32", true},
                              {"the contract (all three)", 8, "fixed", true}};
  const std::string size = bench.quick ? "3M" : "30M";
  std::vector<std::unique_ptr<Stepper>> steppers;
  for (const Order& o : orders) {
    ModelSpec spec = bench_spec(size, DType::bf16, bench.options.order, Purpose::training);
    Json hf = spec.hf;
    hf["llmctl"]["leaves"] = {{"attention", o.leaves}, {"mlp", o.leaves}, {"vocab", o.leaves}};
    spec = make_model_spec(hf, DType::bf16, "[bench] numerics");
    steppers.push_back(std::make_unique<Stepper>(
        step_config(bench.quick ? 2 : 4, bench.quick ? 128 : 256, 8, o.accumulate, o.digest), spec, bench.exec));
  }
  // In turns, so that what else the machine does falls on all alike.
  std::vector<std::vector<double>> seconds(steppers.size());
  for (auto& s : steppers) s->step();
  for (int round = 0; round < (bench.quick ? 3 : 5); ++round)
    for (size_t i = 0; i < steppers.size(); ++i) seconds[i].push_back(steppers[i]->step());
  const double plain = median_of(seconds[0]);
  for (size_t i = 0; i < steppers.size(); ++i) {
    const double tokens = static_cast<double>(8 * steppers[i]->source.tokens());
    bench.add(fmt::format("step {}: {}", size, orders[i].name), tokens / median_of(seconds[i]), "tokens/s",
              tokens / plain);
  }
}

void bench_serve(Bench& bench) {
  const std::string size = bench.options.model_or(bench.quick ? "3M" : "30M");
  const int tokens = static_cast<int>(bench.options.tokens_or(bench.quick ? 16 : 64));
  const int most = static_cast<int>(bench.options.batch_or(16));
  const int64_t context = std::max<int64_t>(512, tokens + 16);
  const auto model = made_up_model(inference_spec(size, bench), 0, context, bench.exec);
  const auto engine = make_engine(*model, {.context = context, .max_batch = most}, bench.exec);
  int64_t salt = 0;
  for (int clients : {1, most}) {
    const double seconds = bench.median([&] { seconds_of_crowd(*engine, clients, tokens, ++salt); });
    bench.add(fmt::format("serve {} bf16, {} client{}", size, clients, clients > 1 ? "s" : ""),
              clients * tokens / seconds, "tokens/s", together_limit(bench, *model, DType::bf16, clients, tokens));
  }
}

}  // namespace llmctl
