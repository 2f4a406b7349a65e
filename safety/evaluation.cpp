// SPDX-License-Identifier: Apache-2.0
#include "safety/evaluation.h"

namespace llmctl {

EvaluationSubject::EvaluationSubject(fs::path folder, EvaluationOptions options, const kn::Exec& exec, Log& log)
    : folder_(std::move(folder)), options_(std::move(options)), exec_(exec), log_(log) {}

Model& EvaluationSubject::model() {
  if (!model_) model_ = load_model(folder_, Purpose::inference, 0, exec_, options_.cache);
  return *model_;
}

const Tokenizer& EvaluationSubject::tokenizer() {
  if (!tokenizer_) tokenizer_ = Tokenizer::load(folder_);
  return *tokenizer_;
}

const TextScore& EvaluationSubject::text_score() {
  if (score_) return *score_;
  check(!options_.inputs.empty(), Code::usage, "[evaluate] this task needs a text: give --input");
  const EvaluationTexts texts =
      read_evaluation_texts(options_.inputs, options_.field, tokenizer(), model().spec().config.vocab, options_.limit);
  score_ = score_texts(model(), texts, tokenizer(), options_.context, options_.stride, exec_);
  return *score_;
}

const std::vector<EvaluationTask>& evaluation_tasks() {
  static const std::vector<EvaluationTask> tasks = {
      {"perplexity", "exp of the mean loss per token of a text", evaluate_perplexity},
      {"bits_per_byte", "loss per byte of a text, in bits", evaluate_bits_per_byte},
      {"arithmetic", "held-out problems of the embedded corpus, exact match", evaluate_arithmetic},
  };
  return tasks;
}

const EvaluationTask& evaluation_task(const std::string& name) {
  std::string known;
  for (const EvaluationTask& task : evaluation_tasks()) {
    if (name == task.name) return task;
    known += known.empty() ? task.name : std::string(", ") + task.name;
  }
  throw Error(Code::usage, "[evaluate] no task \"" + name + "\": there are " + known);
}

}  // namespace llmctl
