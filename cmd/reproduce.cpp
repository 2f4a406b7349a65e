// SPDX-License-Identifier: Apache-2.0
// `llmctl reproduce RUN`: trains again from the last checkpoint before the steps asked for (or from
// the seed) and compares every digest with metrics.jsonl.
#include <fmt/format.h>

#include <fstream>

#include "cmd/commands.h"
#include "cmd/training.h"
#include "core/train/guard.h"

namespace llmctl {
namespace {

struct ReproduceOptions {
  std::string run, steps;
};

struct Range {
  int64_t begin = 0, end = 0;
};

Range parse_range(const std::string& text, int64_t steps) {
  Range r{0, steps};
  if (text.empty()) return r;
  const size_t colon = text.find(':');
  check(colon != std::string::npos, Code::usage, "[reproduce] --steps ", text, ": write first:end, 0:10 for ten steps");
  try {
    if (colon > 0) r.begin = std::stoll(text.substr(0, colon));
    if (colon + 1 < text.size()) r.end = std::stoll(text.substr(colon + 1));
  } catch (const std::exception&) {
    throw Error(Code::usage, "[reproduce] --steps " + text + ": not two numbers");
  }
  check(r.begin >= 0 && r.begin < r.end && r.end <= steps, Code::usage, "[reproduce] --steps ", text,
        ": the run has steps 0:", steps);
  return r;
}

// null when absent, so that a damaged line differs instead of failing.
const Json& field(const Json& object, const char* key) {
  static const Json none = nullptr;
  return object.is_object() && object.contains(key) ? object[key] : none;
}

std::vector<Json> read_metrics(const fs::path& run) {
  std::vector<Json> lines;
  ByteReader reader(run / "metrics.jsonl");
  std::string line;
  while (reader.line(line)) {
    Json json = parse_json(line, (run / "metrics.jsonl").string() + ":" + std::to_string(lines.size() + 1));
    check(json.is_object() && field(json, "step") == static_cast<int64_t>(lines.size()), Code::input,
          "[reproduce] metrics.jsonl: line ", lines.size() + 1, " is not step ", lines.size());
    lines.push_back(std::move(json));
  }
  check(!lines.empty(), Code::input, "[reproduce] ", (run / "metrics.jsonl").string(), ": no step in it");
  return lines;
}

// What differs first between a recorded line and the step just made, or "".
std::string difference(const Json& recorded, const StepResult& r) {
  const Json& d = field(recorded, "digest");
  if (field(recorded, "skipped") != (r.skipped.empty() ? Json() : Json(r.skipped))) return "skipped";
  if (field(d, "batch") != r.batch.hex()) return "batch";
  if (!r.skipped.empty()) return "";
  if (field(recorded, "loss") != r.loss) return "loss";
  if (field(recorded, "grad_norm") != r.grad_norm) return "grad_norm";
  if (!recorded.contains("tensors")) return "";  // numerics.digest was off
  const Json& tensors = recorded["tensors"];
  for (size_t i = 0; i < r.tensors.size(); ++i) {
    Digest sum = r.tensors[i].gradient;
    sum += r.tensors[i].weights;
    if (!tensors.is_array() || i >= tensors.size() || tensors[i] != sum.hex()) return r.tensors[i].name;
  }
  if (field(d, "gradient") != r.gradient.hex()) return "gradient";
  if (field(d, "weights") != r.weights.hex()) return "weights";
  return "";
}

// The guard's decisions are the run's: steps that it skipped are skipped, no others.
StepResult replay(Trainer& trainer, const BatchSource& source, const std::vector<SkippedStep>& skipped, int64_t step) {
  for (const SkippedStep& s : skipped) {
    if (s.step != step) continue;
    StepResult r = trainer.look(source, step);
    r.skipped = s.reason;
    return r;
  }
  return trainer.step(source, step);
}

int reproduce(const ReproduceOptions& o, Common& common) {
  const fs::path run = o.run;
  const TrainConfig config = config_of_run(run);
  const std::vector<Json> recorded = read_metrics(run);
  const Range range = parse_range(o.steps, static_cast<int64_t>(recorded.size()));
  Runtime runtime(common, Devices::any);
  TrainConfig resolved = config;
  const auto job = make_training_job(config, fields_of(resolved).write(), run, common);
  const Json run_json = read_json(run / "run.json");
  check(field(run_json, "data_digest") == job->train->digest(), Code::input, "[reproduce] the data has digest ",
        job->train->digest(), ", the run was on ", run_json.value("data_digest", ""));
  Trainer trainer(config, job->inputs.spec, runtime.exec);
  trainer.allocate();
  const auto from = latest_checkpoint(run, range.begin, [&](const std::string& w) { common.log.warning(w); });
  int64_t step = 0;
  if (from)
    step = load_checkpoint(*from, trainer.model(), runtime.exec).step;
  else if (config.init.empty())
    trainer.model().initialise(config.seed);
  else
    trainer.model().load(TensorStore(config.init));
  const std::vector<SkippedStep> skipped = skipped_steps(run_json);
  Progress progress(common.log, "reproducing", "steps", static_cast<uint64_t>(range.end - step));
  Json first = nullptr;
  for (const int64_t start = step; step < range.end && first.is_null(); ++step) {
    stop_if_interrupted("reproduce");
    const StepResult r = replay(trainer, *job->train, skipped, step);
    progress.update(static_cast<uint64_t>(step + 1 - start));
    if (step < range.begin) continue;
    const std::string what = difference(recorded[static_cast<size_t>(step)], r);
    if (!what.empty()) first = {{"step", step}, {"what", what}};
  }
  progress.finish();
  const bool equal = first.is_null();
  print_result(common,
               {{"equal", equal}, {"steps", {range.begin, range.end}}, {"first_difference", first}},
               equal ? fmt::format("steps {}:{} are equal, bit for bit", range.begin, range.end)
                     : fmt::format("first difference: step {}, {}", first["step"].dump(), first["what"].dump()));
  return equal ? 0 : static_cast<int>(Code::no);
}

}  // namespace

void add_reproduce(CLI::App& app, Common& common) {
  auto o = std::make_shared<ReproduceOptions>();
  app.add_option("RUN", o->run, "folder of the run")->required();
  app.add_option("--steps", o->steps, "first:end, the end not included; all by default");
  examples(app, {"llmctl reproduce runs/first", "llmctl reproduce runs/first --steps 0:10 --threads 1"});
  on_run(app, common, [o, &common] { return reproduce(*o, common); });
}

}  // namespace llmctl
