// SPDX-License-Identifier: Apache-2.0
// Task arithmetic: held-out problems of the embedded corpus, worked greedily, right when the number
// after "answer " is.
#include <condition_variable>
#include <mutex>

#include "core/base/signal.h"
#include "core/engine/load.h"
#include "data/samples/arithmetic.h"
#include "safety/evaluation.h"

namespace llmctl {
namespace {

constexpr int64_t kProblems = 1000;
constexpr int kMaxTokens = 96;  // the longest work has about 50 characters

// One problem at work. Touched by the engine's thread alone until finished.
struct Attempt {
  ArithmeticProblem problem;
  std::string text;
  std::unique_ptr<StreamDecoder> decoder;
  std::string error;
};

struct Countdown {
  std::mutex mutex;
  std::condition_variable zero;
  size_t left = 0;
};

// True once the line of the answer is complete.
bool answered(const std::string& text) {
  const size_t at = text.find("answer ");
  return at != std::string::npos && text.find('\n', at) != std::string::npos;
}

bool take(Attempt& attempt, Countdown& countdown, const TokenOut& token) {
  if (token.id >= 0) attempt.text += attempt.decoder->push(token.id);
  if (token.finish == Finish::none) return !answered(attempt.text) && !interrupted();
  attempt.error = token.finish == Finish::failed ? token.error : "";
  const std::lock_guard lock(countdown.mutex);
  if (--countdown.left == 0) countdown.zero.notify_one();
  return false;
}

void work(EvaluationSubject& subject, std::vector<Attempt>& attempts) {
  const Tokenizer& tokenizer = subject.tokenizer();
  std::vector<std::vector<int32_t>> prompts;
  size_t longest = 0;
  for (const Attempt& a : attempts) {
    prompts.push_back(tokenizer.encode(arithmetic_prompt(a.problem)));
    longest = std::max(longest, prompts.back().size());
  }
  Countdown countdown;
  countdown.left = attempts.size();
  EngineOptions options;
  options.max_batch = subject.options().max_batch;
  options.context = std::min(subject.model().context(), static_cast<int64_t>(longest) + kMaxTokens);
  const auto engine = make_engine(subject.model(), options, subject.exec());
  for (size_t i = 0; i < attempts.size(); ++i) {
    Attempt& attempt = attempts[i];
    attempt.decoder = std::make_unique<StreamDecoder>(tokenizer);
    GenerationRequest request;
    request.prompt = std::move(prompts[i]);
    request.sampling.temperature = 0;
    request.sampling.max_tokens =
        static_cast<int>(options.context - static_cast<int64_t>(request.prompt.size()));
    request.sink = [&attempt, &countdown](const TokenOut& token) { return take(attempt, countdown, token); };
    engine->submit(std::move(request));
  }
  std::unique_lock lock(countdown.mutex);
  countdown.zero.wait(lock, [&] { return countdown.left == 0; });
}

const char* kind_of(char op) {
  return op == '+' ? "addition" : op == '-' ? "subtraction" : "multiplication";
}

// Binomial: sqrt(p (1 - p) / n).
Json row_of(int64_t right, int64_t n) {
  const double share = static_cast<double>(right) / static_cast<double>(n);
  return {{"exact", share},
          {"stderr", __builtin_sqrt(share * (1 - share) / static_cast<double>(n))},
          {"n", n},
          {"right", right}};
}

}  // namespace

Json evaluate_arithmetic(EvaluationSubject& subject) {
  const int64_t n = subject.options().limit > 0 ? subject.options().limit : kProblems;
  std::vector<Attempt> attempts;
  for (const ArithmeticProblem& p : held_out_problems(subject.options().seed, n)) {
    attempts.emplace_back();
    attempts.back().problem = p;
  }
  work(subject, attempts);
  stop_if_interrupted("evaluate");
  Json kinds = Json::object();
  int64_t all_right = 0;
  for (const char op : {'+', '-', 'x'}) {
    int64_t right = 0, of = 0;
    for (Attempt& a : attempts) {
      check(a.error.empty(), Code::bug, "[evaluate] ", a.error);
      if (a.problem.op != op) continue;
      ++of;
      right += check_arithmetic(a.problem, a.text);
    }
    all_right += right;
    if (of > 0) kinds[kind_of(op)] = row_of(right, of);
  }
  Json result = row_of(all_right, n);
  result["kinds"] = kinds;
  return result;
}

}  // namespace llmctl
