// SPDX-License-Identifier: Apache-2.0
// `llmctl train CONFIG`: pre-training into a run folder.
#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <atomic>

#include "cmd/build_id.h"
#include "cmd/commands.h"
#include "cmd/training.h"
#include "core/base/memory.h"
#include "core/base/op_times.h"
#include "parallel/plan.h"
#include "parallel/world.h"

namespace llmctl {
namespace {

struct TrainOptions {
  TrainConfig config;
  std::unique_ptr<ConfigFlags> flags;
  std::string file, run;
  bool resume = false, take_over = false, plan = false, profile = false;
  int64_t stop_after = 0;
  WorldOptions world;
  Json resolved;  // the config
};

// Error{usage} when a field that decides bits is not what the run began with. What does not (passes,
// recomputation, checkpoints, validation, where the data lies: its digest is compared; the guard, whose
// decisions are in run.json) is free.
void check_same_bits(TrainConfig& recorded, TrainConfig& now, const std::string& run) {
  const Fields before = fields_of(recorded), after = fields_of(now);
  for (size_t i = 0; i < before.all().size(); ++i) {
    const std::string& path = before.all()[i].path;
    auto within = [&](const char* group) { return path.starts_with(group); };
    if (within("parallel.") || within("checkpoint.") || within("validation.") || within("data.") ||
        within("guard."))
      continue;
    const Json was = before.all()[i].to_json(), is = after.all()[i].to_json();
    check(was == is, Code::usage, "[train] ", path, " is ", is.dump(), ", the run ", run, " began with ", was.dump(),
          ": resume without it, or start another run");
  }
}

// The config of a run that is resumed is the run's own; a file or flags beside it may only repeat it.
void resolve(TrainOptions& o) {
  const fs::path file = fs::path(o.run) / "run.json";
  const bool exists = o.resume && fs::exists(file);
  if (!o.resume || (!exists && !o.file.empty())) return o.flags->resolve(o.file);
  check(exists, Code::input, "[train] ", o.run, " holds no run to resume");
  const Json json = read_json(file);
  check(json.is_object() && json.contains("config"), Code::input, "[train] ", file.string(), " has no config");
  if (o.file.empty())
    o.flags->resolve(json["config"], file.string());
  else
    o.flags->resolve(o.file);
  TrainConfig recorded;
  fields_of(recorded).read(json["config"], file.string());
  check_same_bits(recorded, o.config, o.run);
}

// Of the rank that needs most: those of a pipeline differ.
int print_plan(const TrainingJob& job, int ranks, const Runtime& runtime, const Common& common) {
  const TrainConfig& config = job.inputs.config;
  std::vector<MemoryLine> plan;
  int rank = 0;
  for (int r = 0; r < ranks; r += std::max(1, ranks / static_cast<int>(config.parallel.pp))) {
    std::vector<MemoryLine> p = plan_here(config, job.inputs.spec, runtime.exec, sharding_of(config, r, ranks));
    if (total_bytes(p) > total_bytes(plan)) plan = std::move(p), rank = r;
  }
  Json lines = Json::array();
  std::string text = config.parallel.pp > 1 ? fmt::format("rank {}\n", rank) : "";
  for (const MemoryLine& line : plan) {
    lines.push_back({{"what", line.what}, {"bytes", line.bytes}});
    text += fmt::format("{:<32} {}\n", line.what, human_bytes(line.bytes));
  }
  const int64_t total = total_bytes(plan);
  print_result(common, {{"memory", lines}, {"bytes", total}, {"rank", rank}}, text + fmt::format("{:<32} {}", "total", human_bytes(total)));
  return 0;
}

// Validation and initialisation are ops too: shares are of the time in steps.
void print_profile(const OpTimes& times, double seconds, Common& common) {
  for (const OpTimes::Row& row : times.rows())
    common.log.line(fmt::format("{:<20} {:>9} calls {:>9.3f} s {:>6.1f} %", row.op, row.calls, row.seconds,
                                100 * row.seconds / seconds));
}

// The CPUs this process may use, shared with the ranks of this host that may use the same ones.
int threads_of_rank(Comm& comm, const LaunchEnv& env, const Common& common) {
  cpu_set_t set;
  CPU_ZERO(&set);
  ::sched_getaffinity(0, sizeof set, &set);
  const std::string mine = env.host + " " + digest_of(&set, sizeof set).hex();
  const std::vector<std::string> all = all_gather_text(comm, mine, "CPUs");
  const auto sharing = static_cast<int>(std::count(all.begin(), all.end(), mine));
  return common.threads > 0 ? common.threads : std::max(1, usable_cpus() / sharing);
}

// What must not differ between ranks.
void check_alike(Comm& comm, const TrainOptions& o) {
  require_same(comm, "the build", kBuildId);
  require_same(comm, "the config", o.resolved.dump());
  require_same(comm, "the run's folder", o.run);
  require_same(comm, "--stop-after", std::to_string(o.stop_after));
}

struct TrainOutcome {
  RunResult run;
  int64_t planned = 0;
};

TrainOutcome train_rank(Comm& comm, const LaunchEnv& env, const TrainOptions& o, Common& common) {
  check_alike(comm, o);
  const bool first = comm.rank() == 0;
  Log silent(true);
  std::unique_ptr<Runtime> runtime;
  std::unique_ptr<TrainingJob> job;
  const int threads = threads_of_rank(comm, env, common);
  TrainOutcome out;
  together(comm, "the run's inputs", [&] {
    runtime = std::make_unique<Runtime>(common, Devices::any, threads);
    job = make_training_job(o.config, o.resolved, o.run, common);
    const RunInputs& in = job->inputs;
    out.planned = total_bytes(plan_here(in.config, in.spec, runtime->exec, sharding_of(in.config, comm.rank(), comm.size())));
  });
  out.planned = all_reduce_one(comm, out.planned, CommOp::max, "memory");  // those of a pipeline differ
  RunInputs& in = job->inputs;
  require_same(comm, "the data", in.provenance["inputs"].dump());
  in.resume = o.resume;
  in.take_over = o.take_over;
  if (const char* launch = std::getenv("LLMCTL_LAUNCH")) in.launch = launch;
  in.stop_after = o.stop_after;
  in.comm = &comm;
  if (first && comm.size() > 1) common.log.line(fmt::format("{} ranks, {} threads each", comm.size(), runtime->pool->threads()));
  OpTimes times;
  if (o.profile && first) runtime->exec.trace = &times;
  out.run = train_run(in, runtime->exec, first ? common.log : silent);
  if (o.profile && first) print_profile(times, out.run.seconds, common);
  return out;
}

void print_outcome(const TrainOptions& o, const TrainOutcome& out, Common& common) {
  const RunResult& r = out.run;
  std::string text = fmt::format("{} steps, train loss {:.4f}", r.steps, r.train_loss);
  if (r.validated) text += fmt::format(", validation loss {:.4f}", r.val_loss);
  text += fmt::format(", {:.0f} tokens/s", r.tokens_per_second);
  if (r.seconds == 0) text = fmt::format("all {} steps were done already", r.steps);
  text += fmt::format("\nmodel: {}", (r.checkpoint / "model").string());
  Json result = result_json(o.run, r);
  result["planned_bytes"] = out.planned;
  result["peak_rss"] = peak_resident_bytes();
  print_result(common, result, text);
  if (r.interrupted) common.log.line(fmt::format("stopped after step {}: continue with --resume", r.steps));
}

int train(TrainOptions& o, Common& common) {
  check(!o.run.empty() || o.plan, Code::usage, "[train] name the run's folder with --run");
  check(o.stop_after >= 0, Code::usage, "[train] --stop-after ", o.stop_after, ": must not be negative");
  resolve(o);
  o.resolved = fields_of(o.config).write();
  if (o.plan) {
    Runtime runtime(common, Devices::any);
    return print_plan(*make_training_job(o.config, o.resolved, o.run, common), o.world.ranks, runtime, common);
  }
  const LaunchEnv env = read_launch_env();
  const bool threads = engine_for(env, o.world) == "threads";
  check(o.world.ranks == 1 || threads, Code::usage, "[train] --ranks ", o.world.ranks,
        " are threads of one process: leave it out where a launcher starts ranks, or with another --comm");
  std::atomic<bool> stopped{false};
  run_world(env, o.world, [&](Comm& comm) {
    const TrainOutcome out = train_rank(comm, env, o, common);
    if (out.run.interrupted) stopped = true;
    if (comm.rank() == 0) print_outcome(o, out, common);
  });
  return stopped ? static_cast<int>(Code::interrupted) : 0;
}

}  // namespace

void add_train(CLI::App& app, Common& common) {
  auto o = std::make_shared<TrainOptions>();
  app.add_option("CONFIG", o->file, "training config, JSON with comments");
  app.add_option("--run", o->run, "folder of the run");
  app.add_flag("--resume", o->resume, "continue the run from its last complete checkpoint");
  app.add_flag("--take-over", o->take_over, "fence off another start of the run that looks alive");
  app.add_flag("--plan", o->plan, "print the memory a step needs and stop");
  app.add_flag("--profile", o->profile, "print the time spent in each kind of op");
  app.add_option("--stop-after", o->stop_after, "save and stop after this many steps, as SIGINT would");
  app.add_option("--ranks", o->world.ranks, "ranks that share the run: so many in this process, unless a launcher started them")
      ->check(at_least(1));
  app.add_option("--comm", o->world.engine, "engine between ranks; auto: as this process was started")
      ->check(CLI::IsMember({"auto", "threads", "tcp", "mpi"}));
  app.add_option("--comm-timeout", o->world.timeout, "seconds to wait for a rank's message before giving up")
      ->check(CLI::Range(0.1, 1e8));
  o->flags = std::make_unique<ConfigFlags>(app, common, fields_of(o->config));
  examples(app, {"llmctl train train.json --run runs/first", "llmctl train --run runs/first --resume",
                 "llmctl train train.json --run runs/big --optimizer.learning_rate 3e-4 --set batch.units=16",
                 "mpirun -n 4 llmctl train train.json --run runs/shared --parallel.zero 1"});
  on_run(app, common, [o, &common] { return train(*o, common); });
}

}  // namespace llmctl
