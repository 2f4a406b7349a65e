// SPDX-License-Identifier: Apache-2.0
// Suites over whole models: a training step, prefill, decode, serving.
// Integer products are compared with the bf16 peak, the widest arithmetic that has a probe.
#include <fmt/format.h>

#include <future>

#include "cmd/bench_runs.h"
#include "core/base/clock.h"
#include "core/train/run.h"

namespace llmctl {
namespace {

void train_step(Bench& bench, const std::string& size, int64_t sequences, int64_t seq) {
  Stepper s(step_config(sequences, seq, 1, true), bench_spec(size, DType::bf16, bench.options.order, Purpose::training),
            bench.exec);
  const double seconds = bench.median([&] { s.step(); });
  const double flops = training_flops_per_token(s.trainer.model().spec().config,
                                                s.trainer.model().parameters().table(), seq);
  bench.add(fmt::format("train {} bf16, step of {} x {}", size, sequences, seq),
            static_cast<double>(sequences * seq) / seconds, "tokens/s", bench.peak(DType::bf16) / flops);
}

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
              "tokens/s", bench.peak(s.products()) / forward_flops(*model, tokens, false));
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
    for (int64_t i = 0; i < 3; ++i) rates.push_back(run_crowd(*engine, clients, 8, tokens, i).tokens_per_second);
    bench.add(fmt::format("decode {} {}, {}{} tokens", size, s.name,
                          clients > 1 ? fmt::format("{} x ", clients) : "", tokens),
              median_of(rates), "tokens/s", together_limit(bench, *model, s.products(), clients, tokens));
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
