// SPDX-License-Identifier: Apache-2.0
// The price of the contract (NUMERICS): the same model with and without what keeps the bits, in turns, so
// that what else the machine does falls on all alike.
#include <fmt/format.h>

#include <algorithm>

#include "cmd/bench_runs.h"
#include "core/base/memory.h"
#include "parallel/plan.h"

namespace llmctl {
namespace {

// 0: the model's own (rule 3's default for its widths).
struct Order {
  const char* name;
  int leaves;
  bool fixed, digest;
};

std::string leaves_text(const ModelSpec& spec) {
  const DecoderConfig& c = spec.config;
  return fmt::format("leaves attention {}, mlp {}, vocabulary {}", c.leaves_attention, c.leaves_mlp,
                     c.leaves_vocab);
}

TrainConfig config_of(const Order& o, int64_t sequences, int64_t seq) {
  TrainConfig config = step_config(sequences, seq, 8, o.fixed);
  config.numerics.digest = o.digest;
  return config;
}

// The plain order and the contract come first: what has no room is left out from the end.
void steps(Bench& bench) {
  constexpr Order orders[] = {{"plain order (1 leaf, fp32 sums, no digest)", 1, false, false},
                              {"the contract, goal 95 %", 0, true, true},
                              {"the contract with 8 leaves", 8, true, true},
                              {"default leaves", 0, false, false},
                              {"8 leaves", 8, false, false},
                              {"fixed-point gradients", 1, true, false},
                              {"digest", 1, false, true}};
  const BenchOptions& options = bench.options;
  const std::string size = options.model_or(bench.quick ? "3M" : "30M");
  const ModelSpec own = bench_spec(size, DType::bf16, options.order, Purpose::training);
  const int64_t sequences = options.batch_or(bench.quick ? 2 : 4),
                seq = options.tokens_or(bench.quick ? 128 : 256);
  std::vector<std::unique_ptr<Stepper>> steppers;
  std::vector<std::string> without;
  int64_t left = available_bytes() / 10 * 9;
  const bool known = left > 0;
  for (const Order& o : orders) {
    const ModelSpec spec = with_leaves(own, o.leaves);
    const TrainConfig config = config_of(o, sequences, seq);
    int64_t bytes = total_bytes(Trainer(config, spec, bench.exec).plan());
    if (known && bytes > left && steppers.size() >= 2) {
      without.push_back(o.name);
      continue;
    }
    left -= bytes;
    steppers.push_back(std::make_unique<Stepper>(config, spec, bench.exec));
  }
  std::vector<std::vector<double>> seconds(steppers.size());
  double round = 0;
  for (auto& s : steppers) round += s->step();
  for (int i = 0; i < (bench.quick || round > 60 ? 3 : 5); ++i)
    for (size_t k = 0; k < steppers.size(); ++k) seconds[k].push_back(steppers[k]->step());
  const double plain = median_of(seconds[0]), tokens = static_cast<double>(8 * sequences * seq);
  for (size_t i = 0, at = 0; at < std::size(orders); ++at) {
    BenchRow row{.name = fmt::format("step {}: {}", size, orders[at].name),
                 .unit = "tokens/s",
                 .limit = tokens / plain};
    if (orders[at].leaves == 0) row.name += " (" + leaves_text(own) + ")";
    if (std::find(without.begin(), without.end(), orders[at].name) != without.end())
      row.skipped = "no memory for one more trainer beside the others";
    else
      row.value = tokens / median_of(seconds[i++]);
    bench.add(std::move(row));
  }
}

// Decoding: the order of sums alone, in weights as they are stored.
void decoding(Bench& bench, const Storage& storage) {
  const std::string size = bench.options.model_or(bench.quick ? "3M" : "30M");
  const ModelSpec own = bench_spec(size, DType::bf16, bench.options.order, Purpose::inference);
  const int tokens = bench.quick ? 32 : 128;
  const std::pair<std::string, int> orders[] = {{"plain order (1 leaf)", 1},
                                                {"the contract, goal 97 % (" + leaves_text(own) + ")", 0},
                                                {"8 leaves", 8}};
  std::vector<std::unique_ptr<Model>> models;
  std::vector<std::unique_ptr<GenerationEngine>> engines;
  for (const auto& [name, leaves] : orders) {
    models.push_back(made_up_model(with_leaves(own, leaves), storage.bits, 2 * tokens, bench.exec));
    engines.push_back(make_engine(*models.back(), {.context = 2 * tokens, .max_batch = 1}, bench.exec));
  }
  std::vector<std::vector<double>> rates(engines.size());
  for (int round = 0; round < (bench.quick ? 4 : 10); ++round)
    for (size_t i = 0; i < engines.size(); ++i) {
      const double rate = run_crowd(*engines[i], 1, 8, tokens, round).tokens_per_second;
      if (round > 0) rates[i].push_back(rate);
    }
  for (size_t i = 0; i < engines.size(); ++i)
    bench.add(fmt::format("decode {} {}: {}", size, storage.name, orders[i].first), median_of(rates[i]),
              "tokens/s", median_of(rates[0]));
}

}  // namespace

void bench_numerics(Bench& bench) {
  if (bench.options.wants("bf16")) steps(bench);
  for (const Storage& s : kStorages)
    if (bench.options.dtypes.empty() ? s.bits != 4 : bench.options.wants(s.name)) decoding(bench, s);
}

}  // namespace llmctl
