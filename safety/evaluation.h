// SPDX-License-Identifier: Apache-2.0
// Verdicts on a model: named tasks, each with its metrics, standard error and number of samples. A
// task is one function in a file safety/evaluation_<name>.cpp and one row of evaluation_tasks().
#pragma once

#include <memory>

#include "core/base/json.h"
#include "core/base/progress.h"
#include "safety/evaluation_text.h"

namespace llmctl {

struct EvaluationOptions {
  std::vector<std::string> inputs;  // texts, JSON lines, packed folders
  std::string field = "text";
  int64_t limit = 0;                // documents of a text, problems of a task; 0: all, or the task's own
  int64_t context = 0, stride = 0;  // windows over texts; 0: the model's context, without overlap
  int max_batch = 32;               // requests generated together
  uint64_t seed = 1;                // of what a task draws
  PanelCacheOptions cache;          // of the model's weights
};

// What tasks share: the model, its tokenizer, and the pass over the texts, each made when first
// asked for. `exec` is used by one task at a time.
class EvaluationSubject {
 public:
  EvaluationSubject(fs::path folder, EvaluationOptions options, const kn::Exec& exec, Log& log);
  const EvaluationOptions& options() const { return options_; }
  const kn::Exec& exec() const { return exec_; }
  Log& log() const { return log_; }
  Model& model();
  const Tokenizer& tokenizer();
  // Error{usage} when no input was given.
  const TextScore& text_score();

 private:
  fs::path folder_;
  EvaluationOptions options_;
  const kn::Exec& exec_;
  Log& log_;
  std::unique_ptr<Model> model_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<TextScore> score_;
};

struct EvaluationTask {
  const char* name;
  const char* summary;
  Json (*run)(EvaluationSubject& subject);  // {metric: value, stderr, n, ...}
};
const std::vector<EvaluationTask>& evaluation_tasks();
// Error{usage} naming the tasks there are.
const EvaluationTask& evaluation_task(const std::string& name);

Json evaluate_perplexity(EvaluationSubject& subject);
Json evaluate_bits_per_byte(EvaluationSubject& subject);
// Held-out problems of the embedded corpus, generated greedily; a table by kind.
Json evaluate_arithmetic(EvaluationSubject& subject);

}  // namespace llmctl
