// SPDX-License-Identifier: Apache-2.0
// `llmctl evaluate MODEL --tasks LIST`: named tasks on a model folder.
#include <fmt/format.h>

#include "cmd/commands.h"
#include "safety/evaluation.h"

namespace llmctl {
namespace {

struct EvaluateOptions {
  std::string model, output;
  std::vector<std::string> tasks = {"perplexity", "bits_per_byte"};
  bool force = false;
  EvaluationOptions evaluation;
};

// One line per document: {"document", "tokens", "bytes", "nats", ...}.
void write_documents(const TextScore& score, const std::string& path, bool force) {
  OutputFile out(path, force);
  int64_t number = 0;
  for (const DocumentScore& d : score.documents) {
    const Json line = {{"document", number++}, {"tokens", d.tokens}, {"bytes", d.bytes}, {"nats", d.nats}};
    out.write(json_text(line) + "\n");
  }
  out.commit();
}

void add_rows(const std::string& name, const Json& result, std::string& text) {
  const auto first = result.begin();
  const std::string error = result["stderr"].is_null() ? "-" : fmt::format("{:.4f}", result["stderr"].get<double>());
  text += fmt::format("{:<24} {:>12.4f}  +- {:<10} n {}\n", name, first.value().get<double>(), error,
                      result["n"].get<int64_t>());
  if (result.contains("kinds"))
    for (const auto& [kind, row] : result["kinds"].items()) add_rows("  " + kind, row, text);
}

int evaluate(const EvaluateOptions& o, Common& common) {
  std::vector<const EvaluationTask*> tasks;
  for (const std::string& name : o.tasks) tasks.push_back(&evaluation_task(name));
  check(!tasks.empty(), Code::usage, "[evaluate] --tasks names no task");
  Runtime runtime(common, Devices::any);
  EvaluationOptions options = o.evaluation;
  if (common.seed) options.seed = *common.seed;
  EvaluationSubject subject(o.model, options, runtime.exec, common.log);
  Json results = Json::object();
  std::string text;
  for (const EvaluationTask* task : tasks) {
    common.log.live(fmt::format("evaluating {}", task->name));
    results[task->name] = task->run(subject);
    common.log.live("");
    add_rows(task->name, results[task->name], text);
  }
  if (!o.output.empty()) write_documents(subject.text_score(), o.output, o.force);
  if (!text.empty()) text.pop_back();  // print_result ends the line
  print_result(common, {{"model", o.model}, {"results", results}}, text);
  return 0;
}

std::string task_list() {
  std::string text = "tasks, separated by commas: ";
  for (const EvaluationTask& task : evaluation_tasks()) text += fmt::format("{} ({}); ", task.name, task.summary);
  text.resize(text.size() - 2);
  return text;
}

}  // namespace

void add_evaluate(CLI::App& app, Common& common) {
  auto o = std::make_shared<EvaluateOptions>();
  app.add_option("MODEL", o->model, "model folder")->required();
  app.add_option("--tasks", o->tasks, task_list())->delimiter(',');
  app.add_option("--input", o->evaluation.inputs, "held-out text: files, JSON lines, packed folders (repeatable)");
  app.add_option("--field", o->evaluation.field, "text field of JSON lines");
  app.add_option("--limit", o->evaluation.limit, "documents of the text, problems of a task; 0 for all")
      ->check(at_least(0));
  app.add_option("--context", o->evaluation.context, "tokens of a window, 0 for the model's context")
      ->check(at_least(0));
  app.add_option("--stride", o->evaluation.stride, "tokens between windows, 0 for no overlap")
      ->check(at_least(0));
  app.add_option("--max-batch", o->evaluation.max_batch, "requests generated together")->check(CLI::Range(1, 4096));
  app.add_option("--output", o->output, "a JSON line per document of the text");
  app.add_flag("--force", o->force, "replace the output");
  add_cache_flags(app, common, o->evaluation.cache);
  examples(app, {"llmctl evaluate demo/model --tasks perplexity,bits_per_byte --input held-out.txt --json",
                 "llmctl evaluate demo/model --tasks arithmetic --limit 300"});
  on_run(app, common, [o, &common] { return evaluate(*o, common); });
}

}  // namespace llmctl
