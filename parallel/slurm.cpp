// SPDX-License-Identifier: Apache-2.0
#include "parallel/slurm.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <charconv>
#include <fstream>

#include "core/base/clock.h"
#include "core/base/signal.h"
#include "parallel/shell.h"

namespace llmctl {
namespace {

// What follows the #SBATCH lines, after program=, train=(), run=, max_restarts=, min_nodes=, most_nodes=
// and ranks_per_node=.
constexpr const char* kBody = R"sh(
step= requeue= tries=0
export LLMCTL_COMM_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')

newest() { ls -d "$run"/checkpoints/step-*/DONE 2>/dev/null | sed 's/.*step-\([0-9]*\).*/\1/' | sort -n | tail -n 1; }

# The most nodes whose ranks the run divides into.
fitting() {
  for ((n = SLURM_JOB_NUM_NODES; n > min_nodes; --n)); do
    "$program" train "${train[@]}" --plan --ranks $((n * ranks_per_node)) >/dev/null 2>&1 && break
  done
  echo "$n"
}

# The ranks end their step and save.
leave() {
  requeue=$1
  scancel --signal=TERM "$SLURM_JOB_ID"
}
trap 'leave "the time limit is near"' USR1
trap 'leave "there is room for more nodes"' USR2
# Slurm ends the job (requeue, preemption, cancel) and tells the ranks itself.
trap 'ended=yes' TERM

while :; do
  saved=$(newest)
  nodes=$(fitting)
  if [ "$nodes" -lt "$most_nodes" ]; then echo "llmctl: on $nodes of the $SLURM_JOB_NUM_NODES nodes there are, up to $most_nodes wanted" >&2; fi
  srun --nodes="$nodes" --ntasks=$((nodes * ranks_per_node)) --kill-on-bad-exit=1 "$program" train "${train[@]}" --resume --take-over &
  step=$!
  # A signal ends `wait` early; the step's own end is what counts.
  while :; do
    wait "$step"
    code=$?
    kill -0 "$step" 2>/dev/null || break
  done
  if [ "$code" = 0 ]; then exit 0; fi
  if [ -n "$requeue" ]; then
    echo "llmctl: $requeue; requeued at step $(newest)" >&2
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 # Slurm ends this script
    exit "$code"
  fi
  if [ -n "${ended-}" ] || [ "$code" = 130 ] || [ "$code" -le 5 ]; then exit "$code"; fi
  if [ "$(newest)" != "$saved" ]; then tries=0; fi
  if [ "$tries" -ge "$max_restarts" ]; then
    echo "llmctl: gave up: $tries restarts brought no newer checkpoint than step ${saved:-none}" >&2
    exit "$code"
  fi
  tries=$((tries + 1))
  echo "llmctl: the ranks ended with $code; restart $tries of $max_restarts from step $(newest)" >&2
  sleep $((2 ** tries))
done
)sh";

fs::path log_of(const SlurmOptions& o, const std::string& id) {
  return o.run / ("slurm-" + id + ".log");
}

// "COMPLETED", "RUNNING" and the script's exit code; "" when Slurm has forgotten the job.
SlurmJob look(const std::string& id) {
  SlurmJob job{id, "", 0, 0};
  const CommandResult shown = run_command({"scontrol", "-o", "show", "job", id});
  const auto value = [&](const std::string& key) {
    const size_t at = shown.output.find(" " + key + "=");
    if (at == std::string::npos) return std::string();
    const size_t begin = at + key.size() + 2;
    return shown.output.substr(begin, shown.output.find_first_of(" \n", begin) - begin);
  };
  if (shown.code != 0) return job;
  job.state = value("JobState");
  const auto first_number = [&](const std::string& text, int& into) {
    std::from_chars(text.data(), text.data() + text.size(), into);
  };
  first_number(value("ExitCode"), job.code);   // "3:0", the second a signal
  first_number(value("NumNodes"), job.nodes);  // "2"; "2-2" of one that waits
  return job;
}

bool is_over(const std::string& state) {
  for (const char* s : {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD",
                        "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT", "SPECIAL_EXIT"})
    if (state == s) return false;
  return true;
}

// Nodes that stand idle where the job could use them.
int idle_nodes(const SlurmOptions& o) {
  std::vector<std::string> ask = {"sinfo", "-h", "-t", "idle", "-o", "%D"};
  if (!o.partition.empty()) ask.insert(ask.end(), {"-p", o.partition});
  int n = 0;
  const CommandResult said = run_command(ask);
  std::from_chars(said.output.data(), said.output.data() + said.output.size(), n);
  return said.code == 0 ? n : 0;
}

// Sees to the number of nodes of an elastic job. Slurm gives a range of nodes its least number, and a
// requeued job the number it had, so the number is set here, while the job waits: to what is idle.
class NodeCount {
 public:
  explicit NodeCount(const SlurmOptions& o) : o_(o) {}
  void look(const SlurmJob& job, Log& log) {
    if (o_.min_nodes == 0) return;
    if (job.state == "PENDING") wait(job, log);
    if (job.state == "RUNNING") run(job, log);
    if (job.state != "RUNNING") running_ = 0, told_ = false;
  }

 private:
  void wait(const SlurmJob& job, Log& log) {
    const int can = std::clamp(std::max(idle_nodes(o_), promised_), o_.min_nodes, o_.nodes);
    if (can == job.nodes) return;
    const CommandResult r =
        run_command({"scontrol", "update", "JobId=" + job.id, fmt::format("NumNodes={}", can),
                     fmt::format("NumTasks={}", can * o_.ranks_per_node)});
    if (r.code == 0)
      log.line(fmt::format("job {}: waits for {} nodes instead of {}", job.id, can, job.nodes));
  }
  // Has a job that ran long enough on fewer nodes than it wants save and requeue itself when more are idle.
  void run(const SlurmJob& job, Log& log) {
    if (running_ != job.nodes) running_ = job.nodes, since_ = Clock::now();
    promised_ = told_ ? promised_ : 0;
    if (told_ || o_.regrow == 0 || job.nodes >= o_.nodes || seconds_since(since_) < o_.regrow) return;
    const int idle = idle_nodes(o_);
    if (idle == 0) return;
    log.line(fmt::format("job {}: {} nodes are idle beside its {}: it saves and is requeued for up to {}",
                         job.id, idle, job.nodes, o_.nodes));
    told_ = run_command({"scancel", "--batch", "--signal=USR2", job.id}).code == 0;
    // Its own nodes are not idle yet when it waits.
    promised_ = told_ ? job.nodes + idle : 0;
  }

  const SlurmOptions& o_;
  int running_ = 0, promised_ = 0;  // nodes
  bool told_ = false;
  Clock::time_point since_;
};

// What the job's log gained since the last call, to stderr as it is.
void relay(const fs::path& log, std::streamoff& at) {
  std::ifstream in(log, std::ios::binary);
  in.seekg(at);
  char piece[4096];
  while (in.read(piece, sizeof piece), in.gcount() > 0) {
    std::fwrite(piece, 1, static_cast<size_t>(in.gcount()), stderr);
    at += in.gcount();
  }
}

}  // namespace

std::string batch_script(const SlurmOptions& o) {
  std::vector<std::string> asks = {fmt::format("--job-name={}", o.name), fmt::format("--nodes={}", o.nodes),
                                   fmt::format("--ntasks-per-node={}", o.ranks_per_node)};
  if (o.cpus_per_rank > 0) asks.push_back(fmt::format("--cpus-per-task={}", o.cpus_per_rank));
  if (o.gpus_per_rank > 0) asks.push_back(fmt::format("--gpus-per-task={}", o.gpus_per_rank));
  if (!o.time.empty()) asks.push_back("--time=" + o.time);
  if (!o.partition.empty()) asks.push_back("--partition=" + o.partition);
  if (!o.account.empty()) asks.push_back("--account=" + o.account);
  asks.insert(asks.end(),
              {"--requeue", "--open-mode=append", fmt::format("--signal=B:USR1@{}", o.signal_before),
               "--output=" + log_of(o, "%j").string()});
  asks.insert(asks.end(), o.extra.begin(), o.extra.end());
  std::string script = "#!/bin/bash\n";
  for (const std::string& ask : asks) script += "#SBATCH " + ask + "\n";
  script += fmt::format(
      "program={}\ntrain=({})\nrun={}\nmax_restarts={} min_nodes={} most_nodes={} ranks_per_node={}",
      shell_quoted(o.program), shell_line(o.train), shell_quoted(o.run.string()), o.max_restarts,
      o.min_nodes > 0 ? o.min_nodes : o.nodes, o.nodes, o.ranks_per_node);
  return script + kBody;
}

SlurmJob submit(const SlurmOptions& o) {
  std::error_code ec;
  fs::create_directories(o.run, ec);
  const fs::path script = o.run / "slurm.sh";
  write_file(script, batch_script(o), true);
  const CommandResult r = run_command({"sbatch", "--parsable", script.string()});
  check(r.code != 127, Code::unsupported,
        "[launch] no sbatch here: is this a node of a Slurm cluster? --dry-run prints the script");
  check(r.code == 0, Code::input, "[launch] sbatch refused ", script.string(), ": ", r.output);
  const std::string last =
      r.output.substr(r.output.rfind('\n') == std::string::npos ? 0 : r.output.rfind('\n') + 1);
  return {last.substr(0, last.find(';')), "PENDING", 0, 0};
}

SlurmJob follow(const SlurmOptions& o, SlurmJob job, Log& log) {
  std::streamoff at = 0;
  int again = 0, unseen = 0;
  NodeCount node_count(o);
  for (std::string shown;;) {
    check(!interrupted(), Code::interrupted, "[launch] job ", job.id, " goes on without us: scancel ", job.id,
          " ends it");
    const SlurmJob now = look(job.id);
    relay(log_of(o, job.id), at);
    // The controller may be restarting.
    if (now.state.empty() && ++unseen < 30) {
      ::poll(nullptr, 0, static_cast<int>(1000 * o.poll));
      continue;
    }
    unseen = 0;
    if (now.state != shown)
      log.line(fmt::format("job {}: {}", job.id, now.state.empty() ? "unknown to Slurm" : now.state));
    shown = now.state;
    job = now;
    node_count.look(job, log);
    const bool lost = job.state == "TIMEOUT" || job.state == "NODE_FAIL" || job.state == "PREEMPTED" ||
                      job.state == "BOOT_FAIL";
    if (lost && again++ < o.max_restarts) {
      job = submit(o);
      at = 0;
      log.warning(fmt::format("Slurm ended the job ({}): submitted again as {}", shown, job.id));
    } else if (is_over(job.state)) {
      return job;
    }
    ::poll(nullptr, 0, static_cast<int>(1000 * o.poll));
  }
}

}  // namespace llmctl
