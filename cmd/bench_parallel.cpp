// SPDX-License-Identifier: Apache-2.0
// Ranks of this process, a thread each: what the same-bits sums over data-parallel ranks cost against plain
// fp32 ones, and weak scaling with what the transport counted beside the formula.
#include <fmt/format.h>

#include <memory>
#include <mutex>

#include "cmd/bench_runs.h"
#include "core/base/clock.h"
#include "core/base/signal.h"
#include "core/train/run.h"
#include "parallel/thread_world.h"

namespace llmctl {
namespace {

constexpr double kTimeout = 600;  // s, of one call
constexpr int64_t kUnitsOfRank = 4;

// A way to step: `plain` is each rank alone and then an fp32 all-reduce, what trainers without our contract
// do.
struct Way {
  TrainConfig config;
  ModelSpec spec;
  bool plain = false;
};

struct Outcome {
  std::vector<double> seconds;  // of steps, on rank 0
  CommCount sent;               // in a step, of all ranks together
  int64_t elements = 0;         // of the model
  double median() const { return median_of(seconds); }
};

// Adds up in the order of ranks what all hold: pieces to their owners, sums back to all.
void plain_all_reduce(Comm& comm, std::vector<float>& data, std::vector<float>& pieces) {
  const int ranks = comm.size();
  const std::vector<int64_t> at = even_offsets(static_cast<int64_t>(data.size()), ranks);
  const int64_t own = at[static_cast<size_t>(comm.rank()) + 1] - at[static_cast<size_t>(comm.rank())];
  std::vector<int64_t> to;
  for (int r = 0; r <= ranks; ++r) to.push_back(r * own);
  pieces.resize(static_cast<size_t>(own * ranks));
  const CommLabel label("plain gradients");
  comm.all_to_all(std::as_bytes(std::span(data)), in_bytes(at, 4), std::as_writable_bytes(std::span(pieces)),
                  in_bytes(to, 4), label);
  for (int r = 1; r < ranks; ++r)
    for (int64_t i = 0; i < own; ++i)
      pieces[static_cast<size_t>(i)] += pieces[static_cast<size_t>(r * own + i)];
  comm.all_gather(std::as_bytes(std::span(pieces).first(static_cast<size_t>(own))),
                  std::as_writable_bytes(std::span(data)), in_bytes(at, 4), label);
}

CommCount minus(const CommCount& a, const CommCount& b) {
  return {a.calls - b.calls, a.messages - b.messages, a.bytes - b.bytes};
}

// One rank's trainer of one way.
class RankTrainer {
 public:
  RankTrainer(const Way& way, Comm& comm, const kn::Exec& exec)
      : comm_(comm),
        plain_(way.plain),
        mesh_(comm, mesh_of(way.config, comm.size())),
        source_(way.config.unit.sequences, way.config.unit.seq_len, way.spec.config.vocab),
        trainer_(way.config, way.spec, exec, way.plain ? Sharding{} : sharding_of(way.config, mesh_)) {
    trainer_.allocate();
    trainer_.model().initialise(1);
    for (const WeightState& w : trainer_.model().parameters().all())
      elements_ += w.spec.rows() * w.spec.cols();
    if (plain_) gradients_.resize(static_cast<size_t>(elements_));
  }
  double step() {
    stop_if_interrupted("bench");
    const CommCount before = sent();
    const auto start = Clock::now();
    StepResult result = trainer_.gradients(source_, steps_++);
    if (plain_) plain_all_reduce(comm_, gradients_, pieces_);
    trainer_.update(result);
    const double seconds = seconds_since(start);
    sent_ = minus(sent(), before);
    return seconds;
  }
  const CommCount& last_sent() const { return sent_; }
  int64_t elements() const { return elements_; }

 private:
  CommCount sent() {
    CommCount all = comm_.counts().total();
    if (BundleStore* store = trainer_.model().parameters().store()) {
      const CommCount bundles = store->sent().total();
      all.messages += bundles.messages, all.bytes += bundles.bytes;
    }
    return all;
  }
  Comm& comm_;
  bool plain_;
  Mesh mesh_;
  MadeUpTokens source_;
  Trainer trainer_;
  std::vector<float> gradients_, pieces_;  // plain: as many bytes as its gradients have
  CommCount sent_;
  int64_t elements_ = 0, steps_ = 0;
};

// Steps of every way in turns, on so many ranks of one thread each.
std::vector<Outcome> in_turns(const Bench& bench, int ranks, const std::vector<Way>& ways, int rounds) {
  std::vector<Outcome> out(ways.size());
  std::mutex mutex;
  run_threads(ranks, kTimeout, [&](Comm& comm) {
    kn::ThreadPool pool(1);
    kn::Exec exec = bench.exec;
    exec.pool = &pool;
    std::vector<std::unique_ptr<RankTrainer>> trainers;
    for (const Way& way : ways) trainers.push_back(std::make_unique<RankTrainer>(way, comm, exec));
    for (int round = 0; round <= rounds; ++round)  // the first warms up
      for (size_t i = 0; i < ways.size(); ++i) {
        comm.barrier("turn");
        const double seconds = trainers[i]->step();
        if (round > 0 && comm.rank() == 0) out[i].seconds.push_back(seconds);
      }
    const std::lock_guard lock(mutex);
    for (size_t i = 0; i < ways.size(); ++i) {
      out[i].sent.messages += trainers[i]->last_sent().messages;
      out[i].sent.bytes += trainers[i]->last_sent().bytes;
      out[i].elements = trainers[i]->elements();
    }
  });
  return out;
}

Way way_of(const ModelSpec& spec, int64_t sequences, int64_t seq, int64_t units, int zero) {
  Way way{step_config(sequences, seq, units, true), spec};
  way.config.parallel.zero = zero;
  way.config.parallel.units_per_pass = kUnitsOfRank;
  return way;
}

// NUMERICS rule 4's price over data-parallel ranks: the plain way is one leaf, fp32 sums, no digest.
void price(Bench& bench, const ModelSpec& spec, int64_t sequences, int64_t seq, int ranks) {
  const int64_t units = kUnitsOfRank * ranks;
  std::vector<Way> ways;
  ways.push_back({step_config(sequences, seq, kUnitsOfRank, false), with_leaves(spec, 1), true});
  ways.front().config.parallel.units_per_pass = kUnitsOfRank;
  for (const int zero : {0, 1, 3}) ways.push_back(way_of(spec, sequences, seq, units, zero));
  const std::vector<Outcome> done = in_turns(bench, ranks, ways, bench.quick ? 3 : 5);
  const double tokens = static_cast<double>(units * sequences * seq), limit = tokens / done[0].median();
  bench.add(fmt::format("{} ranks: plain order, fp32 all-reduce", ranks), limit, "tokens/s", limit);
  for (size_t i = 1; i < ways.size(); ++i)
    bench.add(fmt::format("{} ranks: the contract, ZeRO {}, goal 95 %", ranks, ways[i].config.parallel.zero),
              tokens / done[i].median(), "tokens/s", limit);
}

// Bytes of a step of n data-parallel ranks, all together (tests/bench/PARALLEL.md): every element's gradient
// to its owner, 8 bytes; back to all the sum (ZeRO 0) or the new weight in the compute dtype. One pass a
// step.
double predicted_bytes(int ranks, int zero, int64_t elements) {
  return static_cast<double>((ranks - 1) * elements) * (zero == 0 ? 8 + 8 : 8 + 2);
}

// The work of a rank stays, ranks grow. Cores beyond which ranks share them bound the tokens.
void weak_scaling(Bench& bench, const ModelSpec& spec, int64_t sequences, int64_t seq) {
  const int cpus = usable_cpus();
  double alone = 0;
  for (const int zero : {0, 1, 3})
    for (const int ranks : {1, 2, 4, 8}) {
      if (ranks == 1 && alone > 0) continue;
      if (bench.quick && ranks > 2) continue;
      const Way way = way_of(spec, sequences, seq, kUnitsOfRank * ranks, zero);
      const Outcome done = in_turns(bench, ranks, {way}, bench.quick ? 2 : 3).front();
      const double rate = static_cast<double>(kUnitsOfRank * ranks * sequences * seq) / done.median();
      if (ranks == 1) alone = rate;
      const std::string name =
          ranks == 1 ? "weak scaling, alone" : fmt::format("weak scaling, {} ranks, ZeRO {}", ranks, zero);
      bench.add(name, rate, "tokens/s", alone * std::min(ranks, cpus));
      if (ranks == 1) continue;
      bench.add({.name = name + ": sent",
                 .value = static_cast<double>(done.sent.bytes) * 1e-6,
                 .unit = "MB a step",
                 .axis = "ranks",
                 .curve = fmt::format("ZeRO {}", zero),
                 .at = static_cast<double>(ranks),
                 .predicted = predicted_bytes(ranks, zero, done.elements) * 1e-6});
      bench.add(name + ": messages", static_cast<double>(done.sent.messages), "a step", 0);
    }
}

}  // namespace

void bench_parallel(Bench& bench) {
  const BenchOptions& o = bench.options;
  const ModelSpec spec =
      bench_spec(o.model_or(bench.quick ? "3M" : "30M"), DType::bf16, o.order, Purpose::training);
  const int64_t sequences = o.batch_or(bench.quick ? 2 : 4), seq = o.tokens_or(bench.quick ? 128 : 256);
  price(bench, spec, sequences, seq, 2);
  weak_scaling(bench, spec, sequences, seq);
}

}  // namespace llmctl
