// SPDX-License-Identifier: Apache-2.0
// `llmctl launch local`: many ranks of `llmctl train`, kept running.
#include "cmd/launch.h"

#include <fmt/format.h>

#include <algorithm>

#include "cmd/commands.h"
#include "parallel/shell.h"
#include "parallel/supervisor.h"

namespace llmctl {
namespace {

struct LocalOptions {
  LaunchWords words;
  SupervisorOptions supervisor;
  bool dry_run = false;
};

int dry_run(const LocalOptions& o, const Common& common) {
  Json commands = Json::array();
  std::string text;
  for (int r = 0; r < o.supervisor.ranks; ++r) {
    std::string line;
    for (const auto& [name, value] : rank_environment(r, o.supervisor.ranks, 0, "", 0))
      if (name == "RANK" || name == "WORLD_SIZE" || name.starts_with("LOCAL")) line += name + "=" + value + " ";
    line += "llmctl train " + shell_line(o.supervisor.train);
    commands.push_back(line);
    text += (r == 0 ? "" : "\n") + line;
  }
  print_result(common, {{"job", nullptr}, {"run", o.supervisor.run.string()}, {"state", "dry run"}, {"commands", commands}}, text);
  return 0;
}

int launch_local(LocalOptions& o, Common& common) {
  SupervisorOptions& s = o.supervisor;
  check(s.ranks >= s.least_ranks, Code::usage, "[launch] -n ", s.ranks, " is below --min-ranks ", s.least_ranks);
  check(s.elastic || s.slots.empty(), Code::usage, "[launch] --slots ", s.slots.string(), ": want --elastic beside it");
  s.train = train_arguments(o.words, common, s.run);
  s.program = fs::read_symlink("/proc/self/exe").string();
  if (o.dry_run) return dry_run(o, common);
  const SupervisorResult r = supervise(s, common.log);
  check(r.state != "gave up" || r.code == static_cast<int>(Code::interrupted), static_cast<Code>(r.code), "[launch] gave up: ", r.why);
  Json result = {{"job", r.job}, {"run", s.run.string()}, {"state", r.state}, {"ranks", r.ranks}, {"restarts", r.restarts},
                 {"resizes", r.resizes}};
  const Json train = common.json ? Json::parse(r.output, nullptr, false) : Json();
  if (train.is_object()) result["result"] = train;
  std::string text = r.output;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (!text.empty() || common.json) print_result(common, result, text);
  return r.code;
}

void add_local(CLI::App& launch, Common& common) {
  auto o = std::make_shared<LocalOptions>();
  CLI::App& app = *launch.add_subcommand("local", "ranks on this machine, restarted from the last checkpoint");
  add_words(app, o->words);
  SupervisorOptions& s = o->supervisor;
  app.add_option("-n,--ranks", s.ranks, "ranks, one process each; the machine's CPUs are shared out")->check(at_least(1));
  app.add_option("--max-restarts", s.max_restarts, "restarts without a newer checkpoint before it gives up")->check(at_least(0));
  app.add_option("--backoff", s.backoff, "seconds before the first restart; doubles each time")->check(CLI::Range(0.0, 3600.0));
  app.add_option("--hang-timeout", s.hang_timeout, "seconds without progress after which a world counts as dead, 0 for never")
      ->check(CLI::Range(0.0, 1e9));
  app.add_flag("--elastic", s.elastic, "go on with fewer ranks when one fails twice in a row, and with more when there is room again");
  app.add_option("--slots", s.slots, "elastic: a file whose first word is the number of ranks there is room for; watched");
  app.add_option("--regrow", s.regrow, "elastic: seconds after which the place of a rank that failed is tried again, 0 for never")
      ->check(CLI::Range(0.0, 1e9));
  app.add_option("--min-ranks", s.least_ranks, "elastic: no fewer ranks than this")->check(at_least(1));
  app.add_flag("--dry-run", o->dry_run, "print the commands and stop");
  examples(app, {"llmctl launch local -n 4 train.json --run runs/first",
                 "llmctl launch local -n 4 --elastic --slots slots.txt train.json --run runs/first",
                 "llmctl launch local -n 4 --elastic --max-restarts 10 -- train train.json --run runs/first --parallel.zero 2"});
  on_run(app, common, [o, &common] { return launch_local(*o, common); });
}

// --run DIR or --run=DIR among the words.
std::string run_among(const std::vector<std::string>& words) {
  std::string run;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i].starts_with("--run=")) run = words[i].substr(6);
    if (words[i] == "--run" && i + 1 < words.size()) run = words[i + 1];
  }
  return run;
}

}  // namespace

void add_words(CLI::App& app, LaunchWords& words) {
  app.add_option("TRAIN", words.train, "CONFIG; after -- come flags of train, or all of it: -- train CONFIG --run DIR ...");
  app.add_option("--run", words.run, "folder of the run");
}

std::vector<std::string> train_arguments(const LaunchWords& words, const Common& common, fs::path& run) {
  std::vector<std::string> train = words.train;
  const std::vector<std::string>& typed = common.command_line;
  if (const auto dashes = std::find(typed.begin(), typed.end(), "--"); dashes != typed.end())
    train.insert(train.end(), dashes + 1, typed.end());
  if (!train.empty() && train.front() == "train") train.erase(train.begin());
  const std::string among = run_among(train);
  check(among.empty() || words.run.empty(), Code::usage, "[launch] both --run ", words.run, " and train's --run ", among,
        " are given: name one folder");
  run = among.empty() ? words.run : among;
  check(!run.empty(), Code::usage, "[launch] name the run's folder with --run");
  for (const std::string& word : train)
    check(word != "--ranks" && !word.starts_with("--ranks="), Code::usage, "[launch] --ranks is of threads in one process: use -n");
  if (among.empty()) train.insert(train.end(), {"--run", words.run});
  if (common.threads > 0) train.insert(train.end(), {"--threads", std::to_string(common.threads)});
  if (common.seed) train.insert(train.end(), {"--seed", std::to_string(*common.seed)});
  if (common.device != "auto") train.insert(train.end(), {"--device", common.device});
  if (!common.isa.empty()) train.insert(train.end(), {"--isa", common.isa});
  if (common.json) train.emplace_back("--json");
  if (common.quiet) train.emplace_back("--quiet");
  return train;
}

void add_launch(CLI::App& app, Common& common) {
  add_local(app, common);
  add_slurm(app, common);
  add_kubernetes(app, common);
  app.require_subcommand(1);
}

}  // namespace llmctl
