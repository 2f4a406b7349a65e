// SPDX-License-Identifier: Apache-2.0
#include "serve/call.h"

#include <charconv>
#include <limits>

#include "serve/api_error.h"

namespace llmctl::serve {
namespace {

[[noreturn]] void invalid(const std::string& param, const std::string& message) {
  throw ApiError(400, message, param, "invalid_value");
}

void read_stops(const BodyFields& fields, GenerationCall& call, int64_t vocab) {
  if (const Body* stop = fields.find("stop")) {
    if (!stop->is_string() && !stop->is_array())
      invalid("stop", "'stop' must be a string or an array of strings");
    const Body list = stop->is_string() ? Body::array({*stop}) : *stop;
    if (list.size() > kMaxStops)
      invalid("stop", "'stop' holds " + std::to_string(list.size()) + " strings, at most " +
                          std::to_string(kMaxStops) + " are allowed");
    for (const Body& item : list) {
      if (!item.is_string()) invalid("stop", "'stop' must be a string or an array of strings");
      const auto text = item.get<std::string>();
      if (text.size() > 1024) invalid("stop", "a stop string is longer than 1024 bytes");
      if (!text.empty()) call.stop.push_back(text);
    }
  }
  if (const Body* ids = fields.find("stop_token_ids")) call.stop_ids = ids_of(*ids, "stop_token_ids", vocab);
}

void read_logit_bias(const BodyFields& fields, Sampling& sampling, int64_t vocab) {
  const Body* bias = fields.find("logit_bias");
  if (!bias) return;
  if (!bias->is_object()) invalid("logit_bias", "'logit_bias' must map token ids to numbers");
  for (const auto& [key, value] : bias->items()) {
    int32_t id = -1;
    const auto [end, ec] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (ec != std::errc() || end != key.data() + key.size() || id < 0 || id >= vocab)
      invalid("logit_bias", "'logit_bias' has the key '" + key.substr(0, 60) +
                                "', not a token id from 0 to " + std::to_string(vocab - 1));
    if (!value.is_number() || value.get<double>() < -100 || value.get<double>() > 100)
      invalid("logit_bias", "'logit_bias' values must be numbers from -100 to 100");
    sampling.logit_bias[id] = value.get<float>();
  }
}

void read_sampling(const BodyFields& fields, GenerationCall& call, int64_t vocab) {
  Sampling& s = call.sampling;
  const auto number = [&](const char* name, double low, double high, float& into) {
    if (const auto x = fields.number(name, low, high)) into = static_cast<float>(*x);
  };
  number("temperature", 0, 2, s.temperature);
  number("top_p", 0, 1, s.top_p);
  number("min_p", 0, 1, s.min_p);
  number("presence_penalty", -2, 2, s.presence_penalty);
  number("frequency_penalty", -2, 2, s.frequency_penalty);
  number("repetition_penalty", 0.01, 100, s.repetition_penalty);
  if (s.top_p == 0) {  // only the likeliest token is left
    s.top_p = 1;
    s.temperature = 0;
  }
  const int64_t most = std::numeric_limits<int32_t>::max();
  if (const auto k = fields.integer("top_k", -1, most)) s.top_k = *k < 0 ? 0 : static_cast<int>(*k);
  if (const auto k = fields.integer("min_tokens", 0, most)) s.min_tokens = static_cast<int>(*k);
  s.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  call.seed =
      fields.integer("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
  call.n = static_cast<int>(fields.integer("n", 1, kMaxChoices).value_or(1));
  read_logit_bias(fields, s, vocab);
  read_stops(fields, call, vocab);
}

// What we do not do is refused, not dropped; its "off" spelling is accepted.
void refuse_unsupported(const BodyFields& fields) {
  const std::string off = "leave it out";
  fields.only("tools", {Body::array()}, "tool calls are not offered, " + off);
  fields.only("functions", {Body::array()}, "function calls are not offered, " + off);
  fields.only("tool_choice", {"none", "auto"}, "tool calls are not offered, " + off);
  fields.only("function_call", {"none", "auto"}, "function calls are not offered, " + off);
  fields.only("response_format", {Body{{"type", "text"}}}, "the only response format is text");
  fields.only("modalities", {Body::array({"text"})}, "the only modality is text");
  fields.only("service_tier", {"auto", "default"}, "there is one tier");
  fields.only("store", {false}, "nothing is stored");
  fields.only("reasoning_effort", {"none"}, "the models served here have no reasoning mode");
  fields.only("verbosity", {"medium"}, "verbosity cannot be changed");
  for (const char* name : {"audio", "prediction", "web_search_options", "moderation", "chat_template",
                           "chat_template_kwargs", "guided_json", "guided_regex", "guided_choice",
                           "guided_grammar", "structured_outputs", "grammar", "json_schema", "reasoning"})
    fields.only(name, {}, off);
  fields.boolean("parallel_tool_calls");  // without tools there is nothing for it to change
  fields.string("user");
}

void read_common(const BodyFields& fields, GenerationCall& call, int64_t vocab) {
  call.model = fields.string("model").value_or("");
  refuse_unsupported(fields);
  read_sampling(fields, call, vocab);
  call.stream = fields.boolean("stream").value_or(false);
  call.return_token_ids = fields.boolean("return_token_ids").value_or(false);
  if (const Body* options = fields.find("stream_options")) {
    if (!options->is_object()) invalid("stream_options", "'stream_options' must be an object");
    if (!call.stream) invalid("stream_options", "'stream_options' is only allowed when 'stream' is true");
    call.include_usage = BodyFields(*options).boolean("include_usage").value_or(false);
  }
  call.max_tokens = fields.integer("max_tokens", 0, std::numeric_limits<int32_t>::max());
}

ChatMessage read_message(const Body& item, const std::string& where) {
  if (!item.is_object()) invalid("messages", where + " must be an object");
  const BodyFields fields(item);
  const Body* role = fields.find("role");
  if (!role || !role->is_string()) invalid("messages", where + ".role must be a string");
  ChatMessage message;
  message.role = role->get<std::string>();
  if (message.role == "developer") message.role = "system";  // OpenAI's newer name for it
  if (message.role == "tool" || message.role == "function")
    throw unsupported("messages", where + ".role is '" + message.role + "': tool calls are not offered");
  if (message.role != "system" && message.role != "user" && message.role != "assistant")
    invalid("messages", where + ".role is '" + message.role.substr(0, 60) +
                            "', not one of system, developer, user, assistant");
  if (fields.find("tool_calls") || fields.find("function_call") || fields.find("audio"))
    throw unsupported("messages", where + ": tool calls and audio are not offered");
  const Body* content = fields.find("content");
  if (!content) invalid("messages", where + ".content is missing");
  message.content = text_of_content(*content, "messages");
  return message;
}

Prompt prompt_of(const Body& value, int64_t vocab) {
  Prompt prompt;
  if (value.is_string()) {
    prompt.text = value.get<std::string>();
  } else {
    prompt.ids = ids_of(value, "prompt", vocab);
    if (prompt.ids.empty()) invalid("prompt", "'prompt' has an empty array of token ids");
  }
  return prompt;
}

std::vector<Prompt> read_prompts(const BodyFields& fields, int64_t vocab) {
  const Body* value = fields.find("prompt");
  if (!value) invalid("prompt", "'prompt' is missing");
  if (value->is_string()) return {prompt_of(*value, vocab)};
  if (!value->is_array() || value->empty())
    invalid("prompt", "'prompt' must be a string, strings, token ids, or arrays of token ids");
  if (value->front().is_number()) return {prompt_of(*value, vocab)};
  if (value->size() > kMaxPrompts)
    invalid("prompt", "'prompt' holds " + std::to_string(value->size()) + " prompts, at most " +
                          std::to_string(kMaxPrompts) + " are allowed");
  std::vector<Prompt> prompts;
  for (const Body& item : *value) {
    if (item.type() != value->front().type() || !(item.is_string() || item.is_array()))
      invalid("prompt", "'prompt' must hold only strings or only arrays of token ids");
    prompts.push_back(prompt_of(item, vocab));
  }
  return prompts;
}

}  // namespace

std::string text_of_content(const Body& content, const std::string& param) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) invalid(param, "content must be a string or an array of parts");
  std::string text;
  for (const Body& part : content) {
    if (!part.is_object()) invalid(param, "a content part must be an object");
    const BodyFields fields(part);
    const auto type = fields.string("type");
    if (!type) invalid(param, "a content part has no type");
    if (*type != "text")
      throw unsupported(param, "content of type '" + type->substr(0, 60) + "' is not supported");
    const auto piece = fields.string("text");
    if (!piece) invalid(param, "a text part has no text");
    text += *piece;
  }
  return text;
}

GenerationCall parse_chat_call(const Body& body, int64_t vocab) {
  const BodyFields fields(body);
  GenerationCall call;
  call.chat = true;
  read_common(fields, call, vocab);
  // The newer name wins.
  if (const auto most = fields.integer("max_completion_tokens", 0, std::numeric_limits<int32_t>::max()))
    call.max_tokens = most;
  call.logprobs = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, kMaxTopLogprobs);
  if (top && *top > 0 && !call.logprobs)
    invalid("top_logprobs", "'top_logprobs' is only allowed when 'logprobs' is true");
  if (call.logprobs) call.sampling.top_logprobs = static_cast<int>(top.value_or(0));
  const Body* messages = fields.find("messages");
  if (!messages || !messages->is_array() || messages->empty())
    invalid("messages", "'messages' must be a non-empty array");
  for (size_t i = 0; i < messages->size(); ++i)
    call.messages.push_back(read_message((*messages)[i], "messages[" + std::to_string(i) + "]"));
  return call;
}

GenerationCall parse_completion_call(const Body& body, int64_t vocab) {
  const BodyFields fields(body);
  GenerationCall call;
  read_common(fields, call, vocab);
  if (!call.max_tokens) call.max_tokens = 16;  // OpenAI's default
  call.echo = fields.boolean("echo").value_or(false);
  if (const auto top = fields.integer("logprobs", 0, kMaxTopLogprobs)) {
    call.logprobs = true;
    call.sampling.top_logprobs = static_cast<int>(*top);
    call.sampling.prompt_logprobs = call.echo;
  }
  const auto best_of = fields.integer("best_of", 1, kMaxChoices);
  if (best_of && *best_of != call.n)
    throw unsupported("best_of", "'best_of' other than 'n' is not supported");
  fields.only("suffix", {""}, "filling in the middle is not offered");
  call.prompts = read_prompts(fields, vocab);
  if (static_cast<int64_t>(call.prompts.size()) * call.n > kMaxPrompts)
    invalid("n", "prompts times 'n' is " + std::to_string(call.prompts.size() * static_cast<size_t>(call.n)) +
                     ", at most " + std::to_string(kMaxPrompts) + " choices are allowed");
  return call;
}

}  // namespace llmctl::serve
