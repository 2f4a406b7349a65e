// SPDX-License-Identifier: Apache-2.0
// `llmctl launch slurm` and `llmctl launch kubernetes`: the same training under another's supervision.
#include "cmd/commands.h"
#include "cmd/launch.h"
#include "parallel/jobset.h"
#include "parallel/slurm.h"
#include "parallel/yaml.h"

namespace llmctl {
namespace {

struct SlurmFlags {
  LaunchWords words;
  SlurmOptions job;
  bool dry_run = false, no_follow = false;
};

int launch_slurm(SlurmFlags& o, Common& common) {
  SlurmOptions& s = o.job;
  s.train = train_arguments(o.words, common, s.run);
  if (s.program.empty()) s.program = fs::read_symlink("/proc/self/exe").string();
  s.run = fs::absolute(s.run);
  check(s.min_nodes <= s.nodes, Code::usage, "[launch] --min-nodes ", s.min_nodes, " is above -n ", s.nodes);
  check(s.min_nodes == 0 || o.dry_run || !o.no_follow, Code::usage,
        "[launch] --min-nodes without following: it is the follower that sets the number of nodes");
  for (const std::string& extra : s.extra)
    check(extra.starts_with("--"), Code::usage, "[launch] --sbatch ", extra,
          ": write it as sbatch does, --qos=high");
  Json result = {{"job", nullptr}, {"run", s.run.string()}, {"state", "dry run"}};
  if (o.dry_run) {
    result["script"] = batch_script(s);
    std::string text = batch_script(s);
    text.pop_back();
    print_result(common, result, text);
    return 0;
  }
  SlurmJob job = submit(s);
  common.log.line("submitted job " + job.id);
  if (!o.no_follow) job = follow(s, job, common.log);
  result["job"] = job.id, result["state"] = job.state;
  print_result(common, result, "job " + job.id + ": " + job.state);
  if (o.no_follow || job.state == "COMPLETED") return 0;
  return job.code > 0 ? job.code : static_cast<int>(Code::device);
}

struct KubernetesFlags {
  LaunchWords words;
  JobSetOptions job;
  bool dry_run = false;
};

int launch_kubernetes(KubernetesFlags& o, Common& common) {
  check(o.dry_run, Code::unsupported, "[launch] only --dry-run: pipe the manifest into kubectl apply -f -");
  fs::path run;
  const bool json = common.json, quiet = common.quiet;
  common.json = common.quiet = false;  // of this command, not of the pods
  o.job.train = train_arguments(o.words, common, run);
  common.json = json, common.quiet = quiet;
  const Json manifest = jobset_manifest(o.job);
  std::string text = yaml_text(manifest);
  text.pop_back();
  print_result(common,
               {{"job", o.job.name}, {"run", run.string()}, {"state", "dry run"}, {"manifest", manifest}},
               text);
  return 0;
}

}  // namespace

void add_slurm(CLI::App& launch, Common& common) {
  auto o = std::make_shared<SlurmFlags>();
  CLI::App& app = *launch.add_subcommand("slurm", "a Slurm job that requeues itself, followed to its end");
  add_words(app, o->words);
  SlurmOptions& s = o->job;
  app.add_option("-n,--nodes", s.nodes, "nodes")->check(at_least(1));
  app.add_option("--min-nodes", s.min_nodes,
                 "elastic: start with as few nodes as this, and take up to -n when they are idle")
      ->check(at_least(1));
  app.add_option("--regrow", s.regrow,
                 "elastic: seconds on fewer nodes before the job makes way for more, 0 for never")
      ->check(CLI::Range(0.0, 1e9));
  app.add_option("--ranks-per-node", s.ranks_per_node, "ranks of a node")->check(at_least(1));
  app.add_option("--cpus-per-rank", s.cpus_per_rank, "CPUs of a rank, 0 for the cluster's default")
      ->check(at_least(0));
  app.add_option("--gpus-per-rank", s.gpus_per_rank, "GPUs of a rank")->check(at_least(0));
  s.name = "llmctl";
  app.add_option("--name", s.name, "the job's name");
  app.add_option("--time", s.time, "time limit as sbatch takes it; the job requeues itself before");
  app.add_option("--partition", s.partition, "partition");
  app.add_option("--account", s.account, "account");
  app.add_option("--sbatch", s.extra, "a further option of sbatch, --sbatch=--qos=high; repeatable");
  app.add_option("--signal-before", s.signal_before, "seconds before the limit at which the ranks save")
      ->check(at_least(1));
  app.add_option("--max-restarts", s.max_restarts, "restarts without a newer checkpoint before it gives up")
      ->check(at_least(0));
  app.add_option("--program", s.program, "path of llmctl on the nodes; this one if not given");
  app.add_option("--poll", s.poll, "seconds between looks at the job")->check(CLI::Range(0.1, 3600.0));
  app.add_flag("--no-follow", o->no_follow, "submit and stop");
  app.add_flag("--dry-run", o->dry_run, "print the batch script and stop");
  examples(app, {"llmctl launch slurm -n 4 --ranks-per-node 8 --gpus-per-rank 1 --time 24:00:00 train.json "
                 "--run runs/big",
                 "llmctl launch slurm -n 8 --min-nodes 2 train.json --run runs/elastic",
                 "llmctl launch slurm -n 2 --dry-run -- train train.json --run runs/big --parallel.zero 2"});
  on_run(app, common, [o, &common] { return launch_slurm(*o, common); });
}

void add_kubernetes(CLI::App& launch, Common& common) {
  auto o = std::make_shared<KubernetesFlags>();
  CLI::App& app = *launch.add_subcommand("kubernetes", "a JobSet manifest, a rank per pod");
  add_words(app, o->words);
  JobSetOptions& j = o->job;
  app.add_option("-n,--ranks", j.ranks, "ranks, one pod each")->check(at_least(1));
  app.add_option("--image", j.image, "container image with llmctl in its PATH");
  app.add_option("--claim", j.claim, "PersistentVolumeClaim that all pods mount");
  app.add_option("--mount", j.mount, "where; the config's and the run's paths begin there");
  j.name = "llmctl";
  app.add_option("--name", j.name, "name of the JobSet");
  app.add_option("--namespace", j.name_space, "namespace, the current one if not given");
  app.add_option("--gpus-per-rank", j.gpus_per_rank, "nvidia.com/gpu of a pod")->check(at_least(0));
  app.add_option("--cpu", j.cpu, "CPUs of a pod");
  app.add_option("--memory", j.memory, "memory of a pod");
  app.add_option("--max-restarts", j.max_restarts, "restarts of the JobSet")->check(at_least(0));
  app.add_option("--grace", j.grace_seconds, "seconds an evicted pod has to save")->check(at_least(1));
  app.add_flag("--dry-run", o->dry_run, "print the manifest and stop");
  examples(app, {"llmctl launch kubernetes -n 8 --image registry.example/llmctl:1 --claim data --dry-run "
                 "/data/train.json --run /data/runs/big",
                 "llmctl launch kubernetes -n 2 --image llmctl --claim data --dry-run -- train "
                 "/data/train.json --run /data/r | kubectl apply -f -"});
  on_run(app, common, [o, &common] { return launch_kubernetes(*o, common); });
}

}  // namespace llmctl
