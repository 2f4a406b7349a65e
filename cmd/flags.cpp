// SPDX-License-Identifier: Apache-2.0
#include "cmd/flags.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <thread>
#include <utility>

#include "kernels/build.h"
#include "kernels/device.h"

namespace llmctl {
namespace {

kn::Device device_from(const std::string& name, Devices devices) {
  if (name == "cpu" || name == "auto") return {};
  bool indexed = name.rfind("cuda:", 0) == 0 && name.size() > 5 && name.size() < 9 &&
                 name.find_first_not_of("0123456789", 5) == std::string::npos;
  check(name == "cuda" || indexed, Code::usage, "[device] ", name, ": use auto, cpu, cuda or cuda:N");
  check(devices == Devices::any, Code::unsupported, "[device] ", name, ": this verb runs on the CPU only; use --device cpu");
  check(kn::kHaveCuda, Code::device, "[device] ", name, ": this build has no CUDA code; use --device cpu");
  const int there = kn::device_count(), index = indexed ? std::stoi(name.substr(5)) : 0;
  check(there > 0, Code::device, "[device] ", name, ": no CUDA device or no driver here; use --device cpu");
  check(index < there, Code::device, "[device] ", name, ": this machine has ", there, ", cuda:0 is the first");
  return {kn::DeviceKind::cuda, index};
}

kn::Isa best_isa(const std::string& name) {
  auto supported = kn::supported_isas();
  check(!supported.empty(), Code::unsupported, "[cpu] this CPU has no FMA instructions, llmctl needs them");
  return name.empty() ? supported.front() : kn::isa_from_name(name);
}

}  // namespace

int usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

Runtime::Runtime(const Common& common, Devices devices, int threads) {
  check(common.threads >= 0 && common.threads <= 4096, Code::usage, "[threads] ", common.threads,
        ": use 1 to 4096, or 0 for all CPUs");
  exec.isa = best_isa(common.isa);
  exec.device = device_from(common.device, devices);
  if (threads == 0) threads = common.threads > 0 ? common.threads : usable_cpus();
  pool = std::make_unique<kn::ThreadPool>(threads);
  exec.pool = pool.get();
  kn::use_device(exec);
  exec.stream = kn::new_stream(exec.device);
}

Runtime::~Runtime() { kn::end_stream(exec.device, exec.stream); }

void on_run(CLI::App& app, Common& common, std::function<int()> run) {
  // The parent of a chosen object is called too; the object alone runs.
  app.callback([&app, &common, run = std::move(run)] {
    if (app.get_subcommands().empty()) common.run = run;
  });
}

CLI::Validator at_least(int64_t low) {
  return CLI::Validator(
      [low](std::string& text) {
        int64_t value = 0;
        const char* end = text.data() + text.size();
        const auto [stop, ec] = std::from_chars(text.data(), end, value);
        if (ec != std::errc() || stop != end || value >= low) return std::string();  // no integer: CLI11 says so
        return text + " is below " + std::to_string(low);
      },
      "");
}

void examples(CLI::App& app, std::initializer_list<const char*> lines) {
  std::string text = "Examples:";
  for (const char* line : lines) text.append("\n  ").append(line);
  app.footer(text);
}

void add_cache_flags(CLI::App& app, Common& common, PanelCacheOptions& cache) {
  constexpr const char* kGroup = "Cache of packed weights (a folder of your own on a local disk, may be removed at any time)";
  cache.use = true;
  cache.log = &common.log;
  const auto bytes = CLI::AsSizeValue(false);
  app.add_option("--cache", cache.folder, "its folder; $XDG_CACHE_HOME/llmctl or ~/.cache/llmctl")->group(kGroup);
  app.add_option("--cache-max", cache.max_bytes, "most it may hold, 20GB for example; 0: the four models used last")
      ->transform(bytes)->group(kGroup);
  app.add_option("--cache-min", cache.min_bytes, "smaller models are packed at every start")->transform(bytes)->group(kGroup);
  app.add_flag("!--no-cache", cache.use, "pack the weights at every start, write nothing")->group(kGroup);
}

void print_text(std::string_view text) {
  while (!text.empty()) {
    ssize_t n = ::write(1, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    check(n >= 0, Code::io, "[stdout] cannot write: ", std::strerror(errno));
    text.remove_prefix(static_cast<size_t>(n));
  }
}

void print_result(const Common& common, const Json& result, const std::string& human) {
  std::string text = common.json ? json_text(result) : human;
  if (text.empty() && !common.json) return;
  if (text.empty() || text.back() != '\n') text += '\n';
  print_text(text);
}

// ---------------------------------------------------------------- help
std::string LineFormatter::make_option_opts(const CLI::Option* opt) const {
  std::string out;
  if (opt->get_type_size() != 0) {
    std::string type = opt->get_type_name();  // "INT:INT in [0 - 9]", "UINT:SIZE [b, kb(=1024b), ...]"
    if (const size_t colon = type.find(':'); colon != std::string::npos && type.find('{') == std::string::npos)
      type.erase(0, colon + 1);
    if (type.starts_with("SIZE")) type = "SIZE";
    if (!type.empty()) out += " " + type;
    const std::string value = opt->get_required() ? "" : opt->get_default_str();
    if (!value.empty() && value != "[]") out += "=" + value;
    if (opt->get_expected_max() > 1) out += " ...";
  }
  if (opt->get_required()) out += " (required)";
  return out;
}

std::string LineFormatter::make_option(const CLI::Option* opt, bool is_positional) const {
  constexpr size_t kColumn = 34;
  std::string name = make_option_name(opt, is_positional);
  name.erase(std::min(name.find('{'), name.size()));  // "--no-special{false}"
  std::string left = "  " + name + make_option_opts(opt);
  left.append(left.size() + 2 <= kColumn ? kColumn - left.size() : 2, ' ');
  return left + opt->get_description() + "\n";
}

std::string LineFormatter::make_description(const CLI::App* app) const {
  return app->get_description() + "\n";
}

}  // namespace llmctl
