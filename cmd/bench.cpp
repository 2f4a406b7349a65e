// SPDX-License-Identifier: Apache-2.0
// `llmctl bench SUITE`: ours against the machine's limit.
#include "cmd/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>

#include "cmd/commands.h"
#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/signal.h"
#include "core/train/run.h"
#include "kernels/basic.h"

namespace llmctl {
namespace {

struct Suite {
  const char* name;
  void (*run)(Bench&);
};
constexpr Suite kSuites[] = {{"gemm", bench_gemm},         {"attention", bench_attention},
                             {"train", bench_train},       {"prefill", bench_prefill},
                             {"decode", bench_decode},     {"tokenize", bench_tokenize},
                             {"numerics", bench_numerics}, {"parallel", bench_parallel},
                             {"serve", bench_serve},       {"scaling", bench_scaling}};

// Eight chains, so that loads and not the sum's latency set the pace.
uint64_t read_all(const uint64_t* p, int64_t n) {
  uint64_t sum[8] = {};
  for (int64_t i = 0; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j) sum[j] += p[i + j];
  return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

// Every thread reads `each` bytes of its own, as often as makes 128 MiB.
double measure_bandwidth(const kn::Exec& exec, int64_t each) {
  Arena arena("bandwidth");
  const int64_t tasks = exec.pool->threads(), times = (int64_t{128} << 20) / each;
  View buffer;
  for (bool planned : {false, true}) {
    buffer = arena.take(DType::u8, {tasks, each});
    if (!planned) arena.allocate();
  }
  std::vector<uint64_t> sums(static_cast<size_t>(tasks * 8));  // a cache line for each task
  kn::parallel_for(exec, tasks, [&](int64_t t) {  // touched by the thread count, not by one thread
    auto* p = buffer.as<uint64_t>() + t * each / 8;
    for (int64_t i = 0; i < each / 8; ++i) p[i] = static_cast<uint64_t>(i);
  });
  double best = 0;
  for (int attempt = 0; attempt < 5; ++attempt) {
    const auto start = Clock::now();
    for (int64_t again = 0; again < times; ++again)
      kn::parallel_for(exec, tasks, [&](int64_t t) {
        sums[static_cast<size_t>(8 * t)] += read_all(buffer.as<uint64_t>() + t * each / 8, each / 8);
      });
    best = std::max(best, static_cast<double>(times * tasks * each) / seconds_since(start));
  }
  check(sums[0] != 0, Code::bug, "[bench] nothing was read");
  return best;
}

// A GPU's copies of 1 GiB, bytes read and written.
double measure_copy(const kn::Exec& exec) {
  const int64_t bytes = int64_t{1} << 30;
  Arena arena("copies", exec.device);
  View from, to;
  for (bool planned : {false, true}) {
    from = arena.take(DType::u8, {bytes}), to = arena.take(DType::u8, {bytes});
    if (!planned) arena.allocate();
  }
  const View x(from.data, DType::f32, {bytes / 4}), y(to.data, DType::f32, {bytes / 4});
  double best = 0;
  for (int attempt = 0; attempt < 10; ++attempt) {
    const auto start = Clock::now();
    kn::run(kn::Convert{.x = x, .y = y}, exec);
    kn::wait(exec);
    if (attempt > 1) best = std::max(best, 2.0 * static_cast<double>(bytes) / seconds_since(start));
  }
  return best;
}

std::string amount(double value, const char* format, double scale = 1) {
  return value > 0 ? fmt::format(fmt::runtime(format), value * scale) : "-";
}

// What a sweep says beside its values.
std::string sweep_columns(const BenchRow& r) {
  if (!r.skipped.empty()) return "  skipped: " + r.skipped;
  if (r.predicted == 0) return "";
  return fmt::format(" {:>10} {:>8.2f} {:>12} {:>12}", amount(r.predicted, "{:.4g}"), r.value / r.predicted,
                     amount(static_cast<double>(r.planned_bytes), "{:.0f} MB", 1e-6),
                     amount(static_cast<double>(r.peak_bytes), "{:.0f} MB", 1e-6));
}

std::string text_of(const std::vector<BenchRow>& rows) {
  size_t width = 52;
  for (const BenchRow& r : rows) width = std::max(width, r.name.size());
  std::string text =
      fmt::format("{:<{}} {:>12} {:>12} {:<12} {:>8}", "case", width, "value", "limit", "unit", "of limit");
  if (std::any_of(rows.begin(), rows.end(), [](const BenchRow& r) { return r.predicted > 0; }))
    text += fmt::format(" {:>10} {:>8} {:>12} {:>12}", "predicted", "ratio", "planned", "peak");
  for (const BenchRow& r : rows)
    text += fmt::format("\n{:<{}} {:>12} {:>12} {:<12} {:>8}{}", r.name, width, amount(r.value, "{:.4g}"),
                        amount(r.limit, "{:.4g}"), r.unit,
                        r.limit > 0 && r.value > 0 ? fmt::format("{:.1f} %", 100 * r.value / r.limit) : "-",
                        sweep_columns(r));
  return text;
}

Json number_or_null(double value) {
  return value > 0 ? Json(value) : Json(nullptr);
}

Json json_of(const BenchRow& r) {
  Json row = {{"case", r.name},
              {"value", r.skipped.empty() ? Json(r.value) : Json(nullptr)},
              {"unit", r.unit},
              {"limit", number_or_null(r.limit)},
              {"of_limit", number_or_null(r.limit > 0 ? r.value / r.limit : 0)}};
  if (!r.skipped.empty()) row["skipped"] = r.skipped;
  if (r.axis.empty()) return row;
  row["axis"] = r.axis;
  row["curve"] = r.curve;
  row["at"] = r.at;
  row["predicted"] = number_or_null(r.predicted);
  row["of_predicted"] = number_or_null(r.predicted > 0 ? r.value / r.predicted : 0);
  row["planned_bytes"] = r.planned_bytes;
  row["peak_bytes"] = r.peak_bytes > 0 ? Json(r.peak_bytes) : Json(nullptr);
  return row;
}

double peak_rss_mb() {
  std::ifstream status("/proc/self/status");  // rusage would count the parent's, from before exec
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::strtod(line.c_str() + 6, nullptr) / 1024;
  return 0;
}

// "MxNxK"; nothing unless all three are positive numbers.
std::optional<GemmShape> shape_of(const std::string& text) {
  int64_t dims[3] = {};
  const char *at = text.data(), *end = at + text.size();
  for (int i = 0; i < 3; ++i) {
    const auto [next, error] = std::from_chars(at, end, dims[i]);
    if (error != std::errc() || dims[i] < 1 || dims[i] > int64_t{1} << 24) return std::nullopt;
    if (i < 2 ? next == end || *next != 'x' : next != end) return std::nullopt;
    at = next + 1;
  }
  return GemmShape{dims[0], dims[1], dims[2]};
}

int bench(const std::vector<std::string>& suites, const BenchOptions& options, Common& common) {
  Runtime runtime(common, Devices::any);
  double load = 0;
  if (::getloadavg(&load, 1) == 1 && load > 0.5 * usable_cpus())
    common.log.warning(
        fmt::format("the machine is busy (load {:.1f}): figures and limits will be low and uneven", load));
  const bool sweeps = std::find(suites.begin(), suites.end(), "scaling") != suites.end();
  check(sweeps || options.report.empty(), Code::usage,
        "[bench] --report is a page of the suite scaling: name it too");
  std::unique_ptr<OutputFile> page;  // refused now, not after minutes
  if (!options.report.empty()) page = std::make_unique<OutputFile>(options.report, options.force);
  check(!sweeps || runtime.exec.device.kind == kn::DeviceKind::cpu, Code::unsupported,
        "[bench] scaling runs on the CPU only: its cost model is a CPU's");
  Bench b(runtime.exec, common.log, options);
  for (const std::string& name : suites) {
    const auto* suite =
        std::find_if(std::begin(kSuites), std::end(kSuites), [&](const Suite& s) { return name == s.name; });
    common.log.line("bench " + name);
    suite->run(b);
  }
  Json rows = Json::array();
  for (const BenchRow& r : b.rows()) rows.push_back(json_of(r));
  if (page) {
    page->write(
        sweep_page(b.rows(), fmt::format("{} on {} threads, bf16 order {}", kn::name_of(runtime.exec.isa),
                                         runtime.pool->threads(), kn::name_of(options.order))));
    page->commit();
  }
  print_result(common,
               {{"rows", rows},
                {"bf16_order", kn::name_of(options.order)},
                {"device", runtime.exec.device.kind == kn::DeviceKind::cpu
                               ? "cpu"
                               : kn::device_info(runtime.exec.device.index).name},
                {"isa", kn::name_of(runtime.exec.isa)},
                {"threads", runtime.pool->threads()},
                {"quick", options.quick},
                {"load", load},
                {"peak_rss_mb", peak_rss_mb()}},
               text_of(b.rows()));
  return 0;
}

}  // namespace

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void Bench::add(std::string name, double value, std::string unit, double limit) {
  rows_.push_back({std::move(name), value, std::move(unit), limit});
}

double Bench::peak(DType dtype) {
  double& known = peak_[dtype];
  if (known == 0) known = measure_peak(dtype, options.order, exec);
  return known;
}

double Bench::bandwidth(double working_set) {
  if (exec.device.kind != kn::DeviceKind::cpu) {
    double& known = bandwidth_[0];
    if (known == 0) known = measure_copy(exec);
    return known;
  }
  const double each = working_set / exec.pool->threads();
  int64_t size = int64_t{1} << 20;  // to a power of two between 1 and 128 MiB
  while (size < int64_t{128} << 20 && static_cast<double>(size) < each) size *= 2;
  double& known = bandwidth_[size];
  if (known == 0) known = measure_bandwidth(exec, size);
  return known;
}

double Bench::median(const std::function<void()>& f) const {
  const auto finished = [&] {
    f();
    kn::wait(exec);
  };
  finished();
  std::vector<double> seconds;
  double sum = 0;
  // Short cases repeat more; long ones three times.
  while (seconds.size() < 3 || (sum < (quick ? 0.1 : 0.5) && seconds.size() < 101)) {
    stop_if_interrupted("bench");
    const auto start = Clock::now();
    finished();
    seconds.push_back(seconds_since(start));
    sum += seconds.back();
  }
  return median_of(std::move(seconds));
}

Filled::Filled(DType dtype, std::initializer_list<int64_t> dims, const kn::Exec& exec, const void* values,
               int64_t bytes)
    : arena("bench", exec.device) {
  for (bool planned : {false, true}) {
    view = arena.take(dtype, dims);
    if (!planned) arena.allocate();
  }
  check(bytes <= view.bytes(), Code::bug, "[bench] ", bytes, " bytes for ", view.bytes());
  kn::upload(exec, view.data, values, bytes);
  kn::wait(exec);
}

Filled::Filled(DType dtype, std::initializer_list<int64_t> dims, const kn::Exec& exec, int top)
    : arena(Arena::staged("bench", exec.device)) {
  for (bool planned : {false, true}) {
    view = arena.take(dtype, dims);
    if (!planned) arena.allocate();
  }
  const int64_t rows = view.rows(), cols = view.cols();
  kn::parallel_for(exec, rows, [&](int64_t r) {
    for (int64_t c = 0; c < cols; ++c) {
      // Eighths between -1 and 1: exact in every dtype, and no two neighbours alike.
      const auto v = static_cast<float>((r * 7 + c * 13 + (r * c) % 5) % 17 - 8) / 8.0f;
      uint32_t bits;
      std::memcpy(&bits, &v, 4);
      if (dtype == DType::f32) view.as<float>()[r * cols + c] = v;
      if (dtype == DType::bf16) view.as<uint16_t>()[r * cols + c] = static_cast<uint16_t>(bits >> 16);
      if (dtype == DType::i8)
        view.as<int8_t>()[r * cols + c] = static_cast<int8_t>(std::min(8 * v, static_cast<float>(top)));
    }
  });
  arena.send(exec);
  kn::wait(exec);
  view = arena.sent(view);
}

void add_bench(CLI::App& app, Common& common) {
  auto suites = std::make_shared<std::vector<std::string>>();
  auto options = std::make_shared<BenchOptions>();
  auto shapes = std::make_shared<std::vector<std::string>>();
  std::vector<std::string> names;
  for (const Suite& s : kSuites) names.emplace_back(s.name);
  app.add_option("SUITE", *suites,
                 "gemm, attention, train, prefill, decode, tokenize, numerics, parallel, serve, scaling")
      ->required()
      ->check(CLI::IsMember(names));
  app.add_flag("--quick", options->quick, "small shapes, a few seconds a suite");
  app.add_option("--shape", *shapes, "gemm: only products of these sizes, MxNxK")
      ->check(CLI::Validator([](std::string& s) { return shape_of(s) ? "" : s + " is not MxNxK"; }, "MxNxK"));
  app.add_option("--dtype", options->dtypes, "only f32 or bf16 (gemm), bf16 (models), int8, int4")
      ->check(CLI::IsMember({"f32", "bf16", "int8", "int4"}));
  app.add_option("--bf16-order", options->order, "order of bf16 products: pair (default) or amx32")
      ->transform(CLI::CheckedTransformer(std::map<std::string, kn::Bf16Order>{
          {"pair", kn::Bf16Order::pair}, {"amx32", kn::Bf16Order::amx32}}));
  app.add_option("--model", options->model, "all but gemm, attention, tokenize: the shape")
      ->check(CLI::IsMember(kBenchModels));
  app.add_option("--batch", options->batch,
                 "train, decode, numerics, parallel, serve, scaling: sequences at a time")
      ->check(CLI::Range(1, 1024));
  app.add_option("--tokens", options->tokens, "models: tokens of each")->check(CLI::Range(2, 32768));
  app.add_option("--axis", options->axes, "scaling: only params, context, threads or batch")
      ->check(CLI::IsMember(kBenchAxes));
  app.add_option("--tokenizer", options->tokenizer, "tokenize: this one, on the texts of --input");
  app.add_option("--input", options->inputs, "tokenize: text files")->needs("--tokenizer");
  app.add_option("--report", options->report, "scaling: an HTML page with plots");
  app.add_flag("--force", options->force, "replace the report");
  examples(app, {"llmctl bench gemm attention", "llmctl bench decode --threads 1 --json",
                 "llmctl bench numerics --quick", "llmctl bench gemm --shape 16x2304x768 --dtype bf16",
                 "llmctl bench decode --model 1.1B --dtype int8",
                 "llmctl bench tokenize --tokenizer cl100k_base.tiktoken --input english.txt",
                 "llmctl bench scaling --axis context --axis batch --report scaling.html"});
  on_run(app, common, [suites, shapes, options, &common] {
    for (const std::string& s : *shapes) options->shapes.push_back(*shape_of(s));
    return bench(*suites, *options, common);
  });
}

}  // namespace llmctl
