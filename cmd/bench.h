// SPDX-License-Identifier: Apache-2.0
// What the suites of `llmctl bench` share: rows, each beside a limit of this machine measured in the
// same run. The limits are what registers do (core/train/run.h measure_peak, on all threads) and what
// memory delivers when every thread reads its share of a buffer in huge pages.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cmd/flags.h"
#include "core/models/model.h"
#include "core/train/batch.h"

namespace llmctl {

struct BenchRow {
  std::string name;  // the case
  double value = 0;
  std::string unit;
  double limit = 0;  // in the same unit; 0: none is known
  // Of a sweep: which curve this is a point of, where on it, and what a cost model and the planner said.
  std::string axis, curve;  // "context", "decode int8"
  double at = 0;            // tokens, parameters, threads or sequences, as the axis says
  double predicted = 0;     // in the same unit; 0: not predicted
  int64_t planned_bytes = 0, peak_bytes = 0;  // peak: the most that was resident while it ran; 0: not known
  std::string skipped;                        // why there is no value
};

struct GemmShape {
  int64_t m, n, k;
};

// What the command line asked for; what it left out, each suite fills in.
struct BenchOptions {
  bool quick = false;               // smaller shapes, fewer repetitions
  std::vector<GemmShape> shapes;    // gemm: these products, in the order of sums that training uses
  std::vector<std::string> dtypes;  // gemm, prefill, decode, scaling: only these
  std::string model;                // a shape of kBenchModels
  kn::Bf16Order order = kn::Bf16Order::pair;  // of products in bf16
  int64_t batch = 0;                // sequences at a time
  int64_t tokens = 0;               // tokens of each
  std::vector<std::string> axes;    // scaling: only these
  std::string tokenizer;            // tokenize: this one,
  std::vector<std::string> inputs;  // on these texts
  std::string report;               // scaling: a page with plots
  bool force = false;               // replaces it

  bool wants(const std::string& dtype) const {
    return dtypes.empty() || std::find(dtypes.begin(), dtypes.end(), dtype) != dtypes.end();
  }
  std::string model_or(const char* other) const { return model.empty() ? other : model; }
  int64_t batch_or(int64_t other) const { return batch > 0 ? batch : other; }
  int64_t tokens_or(int64_t other) const { return tokens > 0 ? tokens : other; }
};

class Bench {
 public:
  Bench(const kn::Exec& exec_, Log& log_, BenchOptions options_)
      : exec(exec_), log(log_), options(std::move(options_)), quick(options.quick) {}
  const kn::Exec& exec;
  Log& log;
  const BenchOptions options;
  const bool quick;

  void add(std::string name, double value, std::string unit, double limit);
  void add(BenchRow row) { rows_.push_back(std::move(row)); }
  const std::vector<BenchRow>& rows() const { return rows_; }
  double peak(DType dtype);  // FLOP/s
  // bytes/s read: beyond every cache, or of a working set of so many bytes, which caches may hold.
  double bandwidth(double working_set = 1e18);
  // Seconds of f: the median of some runs after one that warms up. Error{interrupted} after SIGINT.
  double median(const std::function<void()>& f) const;

 private:
  std::vector<BenchRow> rows_;
  std::map<DType, double> peak_;
  std::map<int64_t, double> bandwidth_;  // by the bytes of a thread
};

double median_of(std::vector<double> values);

// Views with room of their own on exec's device, filled with small numbers that depend on the index
// alone (of i8, -top to top), or with `values`.
struct Filled {
  Filled(DType dtype, std::initializer_list<int64_t> dims, const kn::Exec& exec, int top = 8);
  template <class T>
  Filled(DType dtype, std::initializer_list<int64_t> dims, const kn::Exec& exec, const std::vector<T>& values)
      : Filled(dtype, dims, exec, values.data(), static_cast<int64_t>(values.size() * sizeof(T))) {}
  Filled(DType dtype, std::initializer_list<int64_t> dims, const kn::Exec& exec, const void* values, int64_t bytes);
  Arena arena;
  View view;
};

// Shapes that stand for a demo model, small ones, GPT-2's size with either kind of block, TinyLlama's,
// and sizes between and beyond. Those of 124M and 350M tie head and embedding in training. For
// inference the head is a matrix of its own, so that it is quantised as llama.cpp quantises the tied one.
inline const std::vector<std::string> kBenchModels = {"3M", "10M", "30M", "124M", "124M-gpt2", "350M", "1.1B", "1.5B"};
ModelSpec bench_spec(const std::string& size, DType compute, kn::Bf16Order order, Purpose purpose);
// An inference model with made-up weights; bits 0, 8 or 4 (groups of 64).
std::unique_ptr<Model> made_up_model(const ModelSpec& spec, int bits, int64_t context, const kn::Exec& exec);
// The bytes it holds, before it is made.
int64_t made_up_bytes(const ModelSpec& spec, int bits, int64_t context, const kn::Exec& exec);
// Weight bytes that one decoded token reads.
double decode_bytes(const Model& model);

// Rows of tokens by formula.
struct MadeUpTokens final : BatchSource {
  MadeUpTokens(int64_t rows_, int64_t seq_, int64_t vocab_) : rows(rows_), seq(seq_), vocab(vocab_) {}
  void read(int64_t step, int64_t unit, Batch& out) const override;
  std::string digest() const override { return "made up"; }
  int64_t tokens() const override { return rows * seq; }
  int64_t rows, seq, vocab;
};

void bench_gemm(Bench& bench);
void bench_attention(Bench& bench);
void bench_train(Bench& bench);
void bench_prefill(Bench& bench);
void bench_decode(Bench& bench);
void bench_tokenize(Bench& bench);
void bench_numerics(Bench& bench);
void bench_parallel(Bench& bench);
void bench_serve(Bench& bench);
void bench_scaling(Bench& bench);
// The axes of bench_scaling.
inline const std::vector<std::string> kBenchAxes = {"params", "context", "threads", "batch"};

// The rows of sweeps as a page: a plot for each curve, measured and predicted, and the table.
std::string sweep_page(const std::vector<BenchRow>& rows, const std::string& subtitle);

}  // namespace llmctl
