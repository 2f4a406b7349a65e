// SPDX-License-Identifier: Apache-2.0
// Training as a Slurm job: the batch script, and the job followed to its end.
//
// The script asks to be requeued when a node fails, and to be told before the time limit. Its job step is
// `srun llmctl train ... --resume --take-over`, so that each start goes on from the last checkpoint and
// fences off tasks that outlived their node's daemon. Near the limit the ranks save and the job requeues
// itself. A rank that dies ends the step; another begins in the same allocation until max_restarts of them
// brought no newer checkpoint. Exit codes 1 to 5 end the job.
//
// With min_nodes the job takes what the cluster has between that and `nodes`: while it waits, follow() sets
// its number of nodes to what is idle, and one that has run on fewer for `regrow` seconds is made to save and
// requeue itself when more are idle. Ranks run on as many of its nodes as train's layout divides into.
#pragma once

#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/base/progress.h"

namespace llmctl {

struct SlurmOptions {
  std::string program;             // path of llmctl on the nodes
  std::vector<std::string> train;  // arguments of `llmctl train`
  fs::path run;                    // on a file system that all nodes share
  std::string name, time, partition, account;
  std::vector<std::string> extra;  // further options of sbatch, "--qos=high"
  int nodes = 1, min_nodes = 0;    // 0: `nodes` or none
  double regrow = 600;  // seconds that a job runs on fewer nodes before it makes way for more, 0: to its end
  int ranks_per_node = 1, cpus_per_rank = 0, gpus_per_rank = 0;
  int max_restarts = 3;
  int signal_before = 180;  // seconds before the limit; Slurm looks at limits about every half minute
  double poll = 2;          // seconds between looks at the job
};

std::string batch_script(const SlurmOptions& options);

struct SlurmJob {
  std::string id, state;  // Slurm's: COMPLETED, FAILED, CANCELLED, ...
  int code = 0;
  int nodes = 0;  // it runs on
};
// Writes RUN/slurm.sh and submits it. Error{unsupported} without sbatch, Error{input} when it refuses.
SlurmJob submit(const SlurmOptions& options);
// Passes on what the job prints until it ends; a job that Slurm ended for the time limit or a node and did
// not requeue is submitted again. Interrupted here, the job goes on: Error{interrupted} says how to cancel.
SlurmJob follow(const SlurmOptions& options, SlurmJob job, Log& log);

}  // namespace llmctl
