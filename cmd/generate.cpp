// SPDX-License-Identifier: Apache-2.0
// `llmctl generate MODEL --prompt S` and `llmctl chat MODEL`.
#include <fmt/format.h>

#include <chrono>
#include <future>
#include <iostream>

#include "cmd/commands.h"
#include "core/engine/load.h"
#include "data/tokenizer/chat.h"

namespace llmctl {
namespace {

using Clock = std::chrono::steady_clock;

struct GenerateOptions {
  std::string model, prompt, system;
  Sampling sampling;
  EngineOptions engine;
  bool special = true;
  std::vector<std::string> stop;
};

// A stop string may span tokens: generation ends where the text so far contains one.
size_t stop_at(const std::string& text, const std::vector<std::string>& stops) {
  size_t first = std::string::npos;
  for (const std::string& s : stops)
    if (!s.empty()) first = std::min(first, text.find(s));
  return first;
}

const char* name_of(Finish f) {
  return f == Finish::length ? "length" : f == Finish::cancelled ? "cancelled" : "stop";
}

struct Spoken {
  std::string text;
  Completion completion;
  double seconds = 0;
};

// Runs one request; text goes to stdout as it comes when `live`.
Spoken speak(GenerationEngine& engine, const Tokenizer& tokenizer, std::vector<int32_t> prompt,
             const GenerateOptions& o, std::vector<int32_t> stop_ids, bool live) {
  Spoken spoken;
  StreamDecoder decoder(tokenizer);
  GenerationRequest request;
  request.prompt = std::move(prompt);
  request.sampling = o.sampling;
  request.stop_ids = std::move(stop_ids);
  size_t cut = std::string::npos;
  const auto start = Clock::now();
  spoken.completion = complete(engine, std::move(request), [&](int32_t id) {
    const std::string piece = decoder.push(id);
    spoken.text += piece;
    cut = stop_at(spoken.text, o.stop);
    if (live && cut == std::string::npos) print_text(piece);
    return cut == std::string::npos && !interrupted();
  });
  spoken.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const std::string rest = decoder.finish();
  spoken.text += rest;
  if (live && cut == std::string::npos) print_text(rest);
  if (cut != std::string::npos) spoken.text.resize(cut);
  check(spoken.completion.finish != Finish::failed, Code::bug, "[generate] ", spoken.completion.error);
  return spoken;
}

void check_fits(const Tokenizer& tokenizer, const GenerationEngine& engine, const std::string& folder) {
  check(tokenizer.vocab_size() <= engine.vocab_size(), Code::input, "[generate] ", folder,
        ": its tokenizer has ", tokenizer.vocab_size(), " ids but its model only ", engine.vocab_size(),
        ": use the tokenizer it was trained with");
}

int generate(GenerateOptions& o, Common& common) {
  Runtime runtime(common, Devices::any);
  if (common.seed) o.sampling.seed = static_cast<int64_t>(*common.seed);
  // A large vocabulary takes as long to read as mapped weights to load.
  auto reading = std::async(std::launch::async, [&o] { return Tokenizer::load(o.model); });
  const auto engine = make_engine(o.model, o.engine, runtime.exec);
  const Tokenizer tokenizer = reading.get();
  check_fits(tokenizer, *engine, o.model);
  std::vector<int32_t> prompt = tokenizer.encode(o.prompt, {.add_special = o.special});
  if (prompt.empty()) {  // nothing to condition on: the token that starts a text
    const auto first = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
    check(first.has_value(), Code::input,
          "[generate] the prompt is empty and the tokenizer has neither bos nor eos");
    prompt.push_back(*first);
  }
  const bool live = !common.json;
  const size_t prompt_tokens = prompt.size();
  const Spoken spoken = speak(*engine, tokenizer, std::move(prompt), o, {}, live);
  if (live) print_text("\n");
  const auto n = static_cast<double>(spoken.completion.ids.size());
  const double rate = spoken.seconds > 0 ? n / spoken.seconds : 0;
  if (common.json)
    print_result(common,
                 {{"text", spoken.text},
                  {"ids", spoken.completion.ids},
                  {"prompt_tokens", prompt_tokens},
                  {"finish_reason", name_of(spoken.completion.finish)},
                  {"seconds", spoken.seconds},
                  {"tokens_per_second", rate}},
                 "");
  common.log.line(fmt::format("{} tokens, {:.1f} tokens/s, {}", spoken.completion.ids.size(), rate,
                              name_of(spoken.completion.finish)));
  return interrupted() ? static_cast<int>(Code::interrupted) : 0;
}

int chat(GenerateOptions& o, Common& common) {
  Runtime runtime(common, Devices::any);
  if (common.seed) o.sampling.seed = static_cast<int64_t>(*common.seed);
  const Tokenizer tokenizer = Tokenizer::load(o.model);
  const std::vector<int32_t> stops = chat_stop_ids(tokenizer);
  const auto engine = make_engine(o.model, o.engine, runtime.exec);
  check_fits(tokenizer, *engine, o.model);
  std::vector<ChatMessage> turns;
  if (!o.system.empty()) turns.push_back({"system", o.system});
  Json transcript = Json::array();
  std::string line;
  const bool live = !common.json;
  while (!interrupted()) {
    if (live && common.log.terminal()) print_text("> ");
    if (!std::getline(std::cin, line)) break;
    if (line.empty()) continue;
    turns.push_back({"user", line});
    std::vector<int32_t> prompt = apply_chat_template(tokenizer, turns, true);
    const int64_t answer = std::min<int64_t>(o.sampling.max_tokens, engine->context() / 2);
    const int64_t room = engine->context() - answer;
    while (static_cast<int64_t>(prompt.size()) > room && turns.size() > 2) {  // the oldest turns go first
      turns.erase(turns.begin() + (turns[0].role == "system" ? 1 : 0));
      prompt = apply_chat_template(tokenizer, turns, true);
    }
    const Spoken spoken = speak(*engine, tokenizer, std::move(prompt), o, stops, live);
    if (live) print_text("\n");
    turns.push_back({"assistant", spoken.text});
    transcript.push_back({{"user", line}, {"assistant", spoken.text}});
  }
  if (common.json) print_result(common, {{"turns", transcript}}, "");
  return interrupted() ? static_cast<int>(Code::interrupted) : 0;
}

void add_sampling(CLI::App& app, Common& common, GenerateOptions& o) {
  add_cache_flags(app, common, o.engine.cache);
  app.add_option("MODEL", o.model, "model folder")->required();
  app.add_option("--max-tokens", o.sampling.max_tokens, "tokens to generate at most")->check(at_least(0));
  app.add_option("--temperature", o.sampling.temperature, "0 is greedy")->check(CLI::Range(0.0, 100.0));
  app.add_option("--top-p", o.sampling.top_p, "nucleus: keep this much probability")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--top-k", o.sampling.top_k, "keep so many tokens, 0 for all")->check(at_least(0));
  app.add_option("--min-p", o.sampling.min_p, "keep tokens of this share of the likeliest")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--repetition-penalty", o.sampling.repetition_penalty, "1 is none")
      ->check(CLI::Range(0.01, 100.0));
  app.add_option("--stop", o.stop, "text that ends the answer (repeatable)");
  app.add_option("--context", o.engine.context, "longest sequence, 0 for the model's")->check(at_least(0));
}

}  // namespace

void add_generate(CLI::App& app, Common& common) {
  auto o = std::make_shared<GenerateOptions>();
  o->sampling.max_tokens = 128;
  o->engine.max_batch = 1;
  add_sampling(app, common, *o);
  app.add_option("--prompt", o->prompt, "text to continue; may be empty");
  app.add_flag("!--no-special", o->special, "leave out what the tokenizer's template adds (BOS)");
  app.add_flag("--ignore-eos", o->sampling.ignore_eos, "go on after the end of text");
  examples(app, {"llmctl generate runs/first/checkpoints/step-1000/model --prompt 'Once' --max-tokens 100",
                 "llmctl generate model --prompt 'Q: 12+30=?' --temperature 0 --json"});
  on_run(app, common, [o, &common] { return generate(*o, common); });
}

void add_chat(CLI::App& app, Common& common) {
  auto o = std::make_shared<GenerateOptions>();
  o->sampling.max_tokens = 256;
  o->sampling.temperature = 0.7f;
  o->engine.max_batch = 1;
  add_sampling(app, common, *o);
  app.add_option("--system", o->system, "system message");
  examples(app, {"llmctl chat demo/model",
                 "echo 'What is 12 x 7?' | llmctl chat demo/model --temperature 0 --json"});
  on_run(app, common, [o, &common] { return chat(*o, common); });
}

}  // namespace llmctl
