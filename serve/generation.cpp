// SPDX-License-Identifier: Apache-2.0
#include "serve/generation.h"

#include <algorithm>
#include <ctime>
#include <random>

#include "serve/api_error.h"
#include "serve/body.h"

namespace llmctl::serve {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

// A request without a seed gets one; the reply's x-seed header names it, so that any answer can be
// asked for again.
int64_t drawn_seed() {
  std::random_device device;
  return static_cast<int64_t>((uint64_t{device()} << 21) ^ device()) & ((int64_t{1} << 53) - 1);
}

}  // namespace

Generation::Generation(GenerationCall call, const ServedModel& model, Metrics& metrics)
    : call_(std::move(call)), model_(model), metrics_(metrics), start_(Clock::now()) {
  seed_ = call_.seed.value_or(drawn_seed());
  head_.chat = call_.chat;
  head_.id = (call_.chat ? "chatcmpl-" : "cmpl-") + request_id_from({}).substr(4);
  head_.model = model_.name;
  head_.fingerprint = model_.fingerprint;
  head_.created = static_cast<int64_t>(std::time(nullptr));
  stop_ids_ = call_.stop_ids;
  if (call_.chat) {
    const auto turn_ends = chat_stop_ids(*model_.tokenizer);
    stop_ids_.insert(stop_ids_.end(), turn_ends.begin(), turn_ends.end());
    add_prompt(apply_chat_template(*model_.tokenizer, call_.messages, true));
  }
  for (const Prompt& prompt : call_.prompts) add_prompt(encode(prompt));
  end_ids_ = model_.engine->eos_ids();
  end_ids_.insert(end_ids_.end(), stop_ids_.begin(), stop_ids_.end());
  for (size_t p = 0; p < prompts_.size(); ++p)
    for (int k = 0; k < call_.n; ++k) {
      Choice& choice = choices_.emplace_back(*model_.tokenizer, call_, p);
      if (!call_.echo) choice.text.prime(prompts_[p]);
      if (call_.echo) echo_prompt(choice);
    }
  open_ = choices_.size();
  queue_ = std::make_shared<TokenQueue>(choices_.size(), call_.stream || !call_.stop.empty());
}

// Without scores the prompt is known at once. With them the engine reports its tokens from the
// second on: nothing predicts the first.
void Generation::echo_prompt(Choice& choice) {
  const auto& ids = prompts_[choice.prompt];
  const size_t known = call_.sampling.prompt_logprobs ? 1 : ids.size();
  for (size_t i = 0; i < known; ++i) {
    TokenOut token;
    token.id = ids[i];
    token.from_prompt = true;
    choice.text.push(token, false);
  }
}

std::vector<int32_t> Generation::encode(const Prompt& prompt) const {
  if (!prompt.ids.empty()) return prompt.ids;
  // The caller of /v1/completions writes the raw prompt, special tokens included.
  std::vector<int32_t> ids =
      model_.tokenizer->encode(prompt.text, {.add_special = true, .parse_special = true});
  if (!ids.empty()) return ids;
  const auto start = model_.tokenizer->bos() ? model_.tokenizer->bos() : model_.tokenizer->eos();
  if (!start)
    throw ApiError(400, "'prompt' is empty and this model has no start token", "prompt", "invalid_value");
  return {*start};
}

void Generation::add_prompt(std::vector<int32_t> ids) {
  const char* param = call_.chat ? "messages" : "prompt";
  const int64_t context = model_.engine->context(), size = static_cast<int64_t>(ids.size());
  const int64_t room = context - size, wanted = call_.max_tokens.value_or(std::max<int64_t>(room, 1));
  if (room < wanted || room < 0)
    throw ApiError(400,
                   "the prompt has " + std::to_string(size) + " tokens and " + std::to_string(wanted) +
                       " more are asked for, but the context is " + std::to_string(context) +
                       " tokens: shorten the prompt or lower max_tokens",
                   param, "context_length_exceeded");
  if (call_.sampling.min_tokens > wanted)
    throw ApiError(400, "'min_tokens' is more than the tokens asked for, " + std::to_string(wanted),
                   "min_tokens", "invalid_value");
  for (const int32_t id : ids)
    if (id < 0 || id >= model_.engine->vocab_size())
      throw ApiError(400,
                     "token id " + std::to_string(id) + " is outside the model's vocabulary of " +
                         std::to_string(model_.engine->vocab_size()),
                     param, "invalid_value");
  prompts_.push_back(std::move(ids));
  max_tokens_.push_back(wanted);
}

GenerationRequest Generation::request_for(size_t index) const {
  const size_t prompt = choices_[index].prompt;
  GenerationRequest request;
  request.prompt = prompts_[prompt];
  request.sampling = call_.sampling;
  request.sampling.max_tokens = static_cast<int>(max_tokens_[prompt]);
  request.sampling.seed = seed_;
  request.sampling.choice = static_cast<int>(index % static_cast<size_t>(call_.n));
  request.stop_ids = call_.sampling.ignore_eos ? call_.stop_ids : stop_ids_;
  request.sink = [queue = queue_, index](const TokenOut& token) { return queue->push(index, token); };
  return request;
}

void Generation::submit() {
  for (size_t i = 0; i < choices_.size(); ++i) {
    // Nothing to generate and nothing to score: the engine is not needed.
    if (max_tokens_[choices_[i].prompt] == 0 && !call_.sampling.prompt_logprobs) {
      choices_[i].text.finish();
      end_choice(i, "length");
      continue;
    }
    choices_[i].id = model_.engine->submit(request_for(i));
    choices_[i].submitted = true;
  }
}

bool Generation::ends_turn(int32_t id) const {
  return std::find(end_ids_.begin(), end_ids_.end(), id) != end_ids_.end();
}

void Generation::count_token(Choice& choice, Clock::time_point when) {
  if (choice.generated == 0)
    metrics_.first_token(seconds_between(start_, when));
  else
    metrics_.next_token(seconds_between(choice.last, when));
  choice.last = when;
  ++choice.generated;
}

void Generation::absorb(const TokenEvent& event) {
  Choice& choice = choices_[event.choice];
  const TokenOut& token = event.token;
  if (!choice.open) return;
  if (token.id >= 0) {
    if (!token.from_prompt) count_token(choice, event.time);
    choice.text.push(token, token.finish == Finish::stop && ends_turn(token.id));
  }
  if (choice.text.stopped()) {
    queue_->refuse(event.choice);
    model_.engine->cancel(choice.id);
    return end_choice(event.choice, "stop");
  }
  if (token.finish == Finish::none) return;
  choice.text.finish();
  if (token.finish == Finish::failed)
    error_ = token.error.empty() ? "the engine failed on this request" : token.error;
  if (token.finish == Finish::cancelled) error_ = "the request was cancelled by the server";
  end_choice(event.choice, token.finish == Finish::length && !choice.text.stopped() ? "length" : "stop");
}

void Generation::end_choice(size_t index, const std::string& finish) {
  Choice& choice = choices_[index];
  choice.open = false;
  choice.finish = finish;
  --open_;
  metrics_.finished(seconds_between(start_, Clock::now()));
  metrics_.tokens(prompts_[choice.prompt].size(), static_cast<uint64_t>(choice.generated));
}

ChoiceShape Generation::shape_of(size_t index) {
  Choice& choice = choices_[index];
  auto piece = choice.text.take();
  ChoiceShape shape;
  shape.index = index;
  shape.text = std::move(piece.text);
  shape.tokens = std::move(piece.tokens);
  shape.logprobs = call_.logprobs;
  shape.token_ids = call_.return_token_ids;
  if (!choice.begun && call_.return_token_ids) shape.prompt_ids = prompts_[choice.prompt];
  shape.role = call_.chat && !choice.begun;
  choice.begun = true;
  return shape;
}

Usage Generation::usage() const {
  Usage usage;
  for (const auto& prompt : prompts_) usage.prompt += static_cast<int64_t>(prompt.size());
  for (const Choice& choice : choices_) usage.completion += choice.generated;
  return usage;
}

// Chat: an opening chunk with the role, text as it becomes certain, a closing chunk with an empty
// delta and the reason. Completions: the reason comes with the last text.
void Generation::write_chunks(std::string& out) {
  const auto send = [&](const ChoiceShape& shape) {
    Json chunk = reply_json(head_, true);
    chunk["choices"].push_back(chunk_choice(head_, *model_.tokenizer, shape));
    if (call_.include_usage) chunk["usage"] = nullptr;
    out += event_of(chunk);
  };
  for (size_t i = 0; i < choices_.size(); ++i) {
    Choice& choice = choices_[i];
    if (choice.closed) continue;
    const bool first = !choice.begun, last = !choice.open;
    ChoiceShape shape = shape_of(i);
    if (last && !call_.chat) shape.finish = choice.finish;
    if (first || !shape.text.empty() || !shape.tokens.empty() || !shape.finish.empty()) send(shape);
    if (!last) continue;
    if (call_.chat) {
      ChoiceShape closing;
      closing.index = i;
      closing.finish = choice.finish;
      send(closing);
    }
    choice.closed = true;
  }
}

std::string Generation::whole_reply() {
  Json reply = reply_json(head_, false);
  for (size_t i = 0; i < choices_.size(); ++i) {
    ChoiceShape shape = shape_of(i);
    shape.finish = choices_[i].finish;
    reply["choices"].push_back(whole_choice(head_, *model_.tokenizer, shape));
  }
  reply["usage"] = usage().json();
  return to_text(reply);
}

bool Generation::advance(std::string& out) {
  for (const TokenEvent& event : queue_->take()) absorb(event);
  if (!call_.stream) {
    if (!done()) return false;
    out += error_.empty() ? whole_reply() : error_body(ApiError(500, error_));
    return true;
  }
  if (ended_) return true;
  if (error_.empty()) write_chunks(out);
  if (!done()) return false;
  ended_ = true;
  if (!error_.empty()) {
    out += "data: " + error_body(ApiError(500, error_)) + "\n\n";
  } else if (call_.include_usage) {
    Json last = reply_json(head_, true);
    last["usage"] = usage().json();
    out += event_of(last);
  }
  out += "data: [DONE]\n\n";
  return true;
}

void Generation::abandon() {
  queue_->close();
  for (Choice& choice : choices_) {
    if (!choice.submitted || !choice.open) continue;
    model_.engine->cancel(choice.id);
    metrics_.tokens(prompts_[choice.prompt].size(), static_cast<uint64_t>(choice.generated));
    choice.open = false;
  }
}

}  // namespace llmctl::serve
