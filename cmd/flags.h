// SPDX-License-Identifier: Apache-2.0
// From flags to calls: what every verb shares. Precedence, the same for each flag: the flag itself,
// then --set, then the environment (LLMCTL_MAX_TOKENS for --max-tokens), then the --config file,
// then the default.
#pragma once

#include <CLI/CLI.hpp>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/json.h"
#include "core/base/progress.h"
#include "core/base/signal.h"
#include "core/models/panel_cache.h"
#include "kernels/exec.h"

namespace llmctl {

// The flags of every verb, and what main and the verb tell each other. One per process.
struct Common {
  std::string device = "auto";  // auto, cpu, cuda, cuda:N
  std::string isa;              // "" is the best this CPU has
  int threads = 0;              // 0: as many as this process may use
  std::optional<uint64_t> seed;
  std::string config;            // --config FILE
  std::vector<std::string> set;  // --set a.b=c
  bool json = false, quiet = false;
  Log log;
  std::vector<std::string> command_line;  // argv as typed, for run.json
  std::function<int()> run;               // set by the verb that was parsed (on_run)
};

// The verb's work: called by main after the parse; the result is the exit code.
void on_run(CLI::App& app, Common& common, std::function<int()> run);
// The examples under --help: at least two, real.
// For integers, with a message that names the bound alone.
CLI::Validator at_least(int64_t low);
void examples(CLI::App& app, std::initializer_list<const char*> lines);
// --cache, --cache-max, --cache-min and --no-cache, for verbs that load a model to run it.
void add_cache_flags(CLI::App& app, Common& common, PanelCacheOptions& cache);

// stdout, once, at the end: `result` as one line with --json, else `human` (a newline is added).
// Error{io} when stdout cannot take it.
void print_result(const Common& common, const Json& result, const std::string& human);
// Bytes to stdout now (streamed text). Error{io}.
void print_text(std::string_view text);

// Where a verb's arithmetic can run.
enum class Devices : uint8_t { cpu, any };

// Threads and Exec as the common flags ask; its device is the calling thread's from then on. Not
// copyable; outlives what uses exec. auto is the CPU until the GPU back end has been verified on one.
// Error{usage} for a bad name, Error{device} for a device that is not there, Error{unsupported} for one
// that the verb cannot use.
struct Runtime {
  // threads: instead of what the flag asks for.
  explicit Runtime(const Common& common, Devices devices = Devices::cpu, int threads = 0);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  std::unique_ptr<kn::ThreadPool> pool;
  kn::Exec exec;
};
// The CPUs this process may run on.
int usable_cpus();

// One flag per config field (--optimizer.beta1), one variable, one --set name. Keep it alive with
// the verb's options; call resolve() in the run, before the config is used.
//   struct TrainOptions { TrainConfig config; std::unique_ptr<ConfigFlags> flags; };
//   o->flags = std::make_unique<ConfigFlags>(app, common, fields_of(o->config));
//   run: o->flags->resolve(o->file);   // "" takes --config
class ConfigFlags {
 public:
  ConfigFlags(CLI::App& app, Common& common, Fields fields);
  ConfigFlags(const ConfigFlags&) = delete;
  ConfigFlags& operator=(const ConfigFlags&) = delete;
  // File, environment, --set, flags, in this order. Error{input} from the file, else Error{usage}.
  void resolve(const std::string& file);
  // The same over an object that `source` names.
  void resolve(const Json& object, const std::string& source);
  // The resolved config: runs again as it is.
  Json write() const { return fields_.write(); }

 private:
  Common& common_;
  Fields fields_;
  std::vector<CLI::Option*> options_;  // one per field
  std::deque<std::string> texts_;      // what was typed; addresses are kept by CLI11
};

// The arguments after argv[0] with --set, environment and --config turned into the flags they
// stand for, where the flag itself is not given. Error{usage|input} for names no flag has.
std::vector<std::string> expand_arguments(CLI::App& root, std::vector<std::string> arguments);
// The verb or object of that name, or null.
CLI::App* object_named(CLI::App& app, const std::string& name);
// The app that `arguments` name, and how many words that took.
CLI::App* leaf_of(CLI::App& root, const std::vector<std::string>& arguments, size_t& words);
// Long names of an app's flags, "--max-tokens".
std::vector<std::string> flag_names(const CLI::App& app);

// One line per flag, whatever its length.
class LineFormatter : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* opt, bool is_positional) const override;
  std::string make_option_opts(const CLI::Option* opt) const override;
  std::string make_description(const CLI::App* app) const override;
};

}  // namespace llmctl
