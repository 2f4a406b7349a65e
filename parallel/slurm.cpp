// SPDX-License-Identifier: Apache-2.0
#include "parallel/slurm.h"

#include <fmt/format.h>
#include <poll.h>

#include <charconv>
#include <fstream>

#include "core/base/signal.h"
#include "parallel/shell.h"

namespace llmctl {
namespace {

// What follows the #SBATCH lines, after program=, train=(), run= and max_restarts=.
constexpr const char* kBody = R"sh(
step= near_limit= tries=0
export LLMCTL_COMM_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')

newest() { ls -d "$run"/checkpoints/step-*/DONE 2>/dev/null | sed 's/.*step-\([0-9]*\).*/\1/' | sort -n | tail -n 1; }

# The time limit is near: the ranks end their step and save.
near() {
  near_limit=yes
  scancel --signal=TERM "$SLURM_JOB_ID"
}
trap near USR1
# Slurm ends the job (requeue, preemption, cancel) and tells the ranks itself.
trap 'ended=yes' TERM

while :; do
  saved=$(newest)
  srun --kill-on-bad-exit=1 "$program" train "${train[@]}" --resume --take-over &
  step=$!
  # A signal ends `wait` early; the step's own end is what counts.
  while :; do
    wait "$step"
    code=$?
    kill -0 "$step" 2>/dev/null || break
  done
  if [ "$code" = 0 ]; then exit 0; fi
  if [ -n "$near_limit" ]; then
    echo "llmctl: the time limit is near; requeued at step $(newest)" >&2
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

fs::path log_of(const SlurmOptions& o, const std::string& id) { return o.run / ("slurm-" + id + ".log"); }

// "COMPLETED", "RUNNING" and the script's exit code; "" when Slurm has forgotten the job.
SlurmJob look(const std::string& id) {
  SlurmJob job{id, "", 0};
  const CommandResult shown = run_command({"scontrol", "-o", "show", "job", id});
  const auto value = [&](const std::string& key) {
    const size_t at = shown.output.find(" " + key + "=");
    if (at == std::string::npos) return std::string();
    const size_t begin = at + key.size() + 2;
    return shown.output.substr(begin, shown.output.find_first_of(" \n", begin) - begin);
  };
  if (shown.code != 0) return job;
  job.state = value("JobState");
  const std::string code = value("ExitCode");  // "3:0", the second a signal
  std::from_chars(code.data(), code.data() + code.size(), job.code);
  return job;
}

bool is_over(const std::string& state) {
  for (const char* s : {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "STOPPED",
                        "RESIZING", "SIGNALING", "STAGE_OUT", "SPECIAL_EXIT"})
    if (state == s) return false;
  return true;
}

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
  asks.insert(asks.end(), {"--requeue", "--open-mode=append", fmt::format("--signal=B:USR1@{}", o.signal_before),
                           "--output=" + log_of(o, "%j").string()});
  asks.insert(asks.end(), o.extra.begin(), o.extra.end());
  std::string script = "#!/bin/bash\n";
  for (const std::string& ask : asks) script += "#SBATCH " + ask + "\n";
  script += fmt::format("program={}\ntrain=({})\nrun={}\nmax_restarts={}", shell_quoted(o.program), shell_line(o.train),
                        shell_quoted(o.run.string()), o.max_restarts);
  return script + kBody;
}

SlurmJob submit(const SlurmOptions& o) {
  std::error_code ec;
  fs::create_directories(o.run, ec);
  const fs::path script = o.run / "slurm.sh";
  write_file(script, batch_script(o), true);
  const CommandResult r = run_command({"sbatch", "--parsable", script.string()});
  check(r.code != 127, Code::unsupported, "[launch] no sbatch here: is this a node of a Slurm cluster? --dry-run prints the script");
  check(r.code == 0, Code::input, "[launch] sbatch refused ", script.string(), ": ", r.output);
  const std::string last = r.output.substr(r.output.rfind('\n') == std::string::npos ? 0 : r.output.rfind('\n') + 1);
  return {last.substr(0, last.find(';')), "PENDING", 0};
}

SlurmJob follow(const SlurmOptions& o, SlurmJob job, Log& log) {
  std::streamoff at = 0;
  int again = 0, unseen = 0;
  for (std::string shown;;) {
    check(!interrupted(), Code::interrupted, "[launch] job ", job.id, " goes on without us: scancel ", job.id, " ends it");
    const SlurmJob now = look(job.id);
    relay(log_of(o, job.id), at);
    // The controller may be restarting.
    if (now.state.empty() && ++unseen < 30) {
      ::poll(nullptr, 0, static_cast<int>(1000 * o.poll));
      continue;
    }
    unseen = 0;
    if (now.state != shown) log.line(fmt::format("job {}: {}", job.id, now.state.empty() ? "unknown to Slurm" : now.state));
    shown = now.state;
    job = now;
    const bool lost = job.state == "TIMEOUT" || job.state == "NODE_FAIL" || job.state == "PREEMPTED" || job.state == "BOOT_FAIL";
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
