// SPDX-License-Identifier: Apache-2.0
// The routes that answer at once.
#include <array>

#include "serve/api.h"
#include "serve/body.h"

namespace llmctl::serve {
namespace {

HttpResponse json_response(const Json& json) {
  HttpResponse response;
  response.body = to_text(json);
  return response;
}

Json model_json(const ServedModel& model) {
  return {{"id", model.name},
          {"object", "model"},
          {"created", model.created},
          {"owned_by", "llmctl"},
          {"max_model_len", model.engine->context()}};
}

// OpenAI's typed clients want all of these in every result.
constexpr std::array kCategories{"harassment",
                                 "harassment/threatening",
                                 "hate",
                                 "hate/threatening",
                                 "illicit",
                                 "illicit/violent",
                                 "self-harm",
                                 "self-harm/instructions",
                                 "self-harm/intent",
                                 "sexual",
                                 "sexual/minors",
                                 "violence",
                                 "violence/graphic"};

// A category the classifier does not know is false and 0 with an empty list of applied input
// types: nothing was looked at.
Json moderation_json(const ModerationResult& result) {
  Json flags = Json::object(), scores = Json::object(), applied = Json::object();
  for (const char* name : kCategories) {
    flags[name] = false;
    scores[name] = 0.0;
    applied[name] = Json::array();
  }
  for (const ModerationCategory& category : result.categories) {
    flags[category.name] = category.flagged;
    scores[category.name] = category.score;
    applied[category.name] = Json::array({"text"});
  }
  return {{"flagged", result.flagged},
          {"categories", flags},
          {"category_scores", scores},
          {"category_applied_input_types", applied}};
}

// A string, strings, or parts of one input.
std::vector<std::string> moderation_inputs(const Body& body) {
  const Body* input = BodyFields(body).find("input");
  if (!input) throw ApiError(400, "'input' is missing", "input", "invalid_value");
  if (input->is_string()) return {input->get<std::string>()};
  if (!input->is_array() || input->empty())
    throw ApiError(400, "'input' must be a string or a non-empty array", "input", "invalid_value");
  if (input->front().is_object()) return {text_of_content(*input, "input")};
  std::vector<std::string> texts;
  for (const Body& item : *input) {
    if (!item.is_string())
      throw ApiError(400, "'input' must hold only strings or only parts", "input", "invalid_value");
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

}  // namespace

HttpResponse Api::list_models(const HttpRequest&) {
  Json data = Json::array();
  for (const ServedModel& model : models_) data.push_back(model_json(model));
  return json_response({{"object", "list"}, {"data", data}});
}

HttpResponse Api::show_model(const HttpRequest& request) {
  const auto name = percent_decode(request.path.substr(std::string_view("/v1/models/").size()));
  if (!name) throw ApiError(400, "the model's name has a broken percent escape", "model");
  return json_response(model_json(model_named(*name)));
}

HttpResponse Api::moderate(const HttpRequest& request) {
  const Body body = parse_body(request.body);
  BodyFields(body).string("model");  // any name: there is one classifier
  const std::vector<std::string> inputs = moderation_inputs(body);
  if (!guard_)
    throw ApiError(501, "no moderation model is loaded: start the server with --moderation MODEL-DIR", {},
                   "not_configured");
  Json results = Json::array();
  for (const std::string& text : inputs) results.push_back(moderation_json(guard_->check(text)));
  return json_response(
      {{"id", "modr-" + request_id_from({}).substr(4)}, {"model", guard_->model()}, {"results", results}});
}

HttpResponse Api::tokenize(const HttpRequest& request) {
  const Body body = parse_body(request.body);
  const BodyFields fields(body);
  const ServedModel& model = model_named(fields.string("model").value_or(""));
  const Tokenizer& tokenizer = *model.tokenizer;
  std::vector<int32_t> ids;
  if (fields.find("messages")) {
    Body chat = {{"messages", body["messages"]}};
    ids = apply_chat_template(tokenizer, parse_chat_call(chat, tokenizer.vocab_size()).messages,
                              fields.boolean("add_generation_prompt").value_or(true));
  } else {
    auto text = fields.string("prompt");
    if (!text) text = fields.string("content");  // llama.cpp's name for it
    if (!text) throw ApiError(400, "'prompt' or 'messages' is missing", "prompt", "invalid_value");
    ids = tokenizer.encode(*text, {.add_special = fields.boolean("add_special_tokens").value_or(true),
                                   .parse_special = fields.boolean("parse_special").value_or(true)});
  }
  return json_response({{"tokens", ids}, {"count", ids.size()}, {"max_model_len", model.engine->context()}});
}

HttpResponse Api::detokenize(const HttpRequest& request) {
  const Body body = parse_body(request.body);
  const BodyFields fields(body);
  const Tokenizer& tokenizer = *model_named(fields.string("model").value_or("")).tokenizer;
  const Body* tokens = fields.find("tokens");
  if (!tokens) throw ApiError(400, "'tokens' is missing", "tokens", "invalid_value");
  const auto ids = ids_of(*tokens, "tokens", tokenizer.vocab_size());
  const std::string text = tokenizer.decode(ids, fields.boolean("skip_special_tokens").value_or(false));
  return json_response({{"prompt", text}});
}

HttpResponse Api::health(const HttpRequest&) {
  const bool serving = ready_ && !draining_;
  HttpResponse response = json_response({{"status", draining_ ? "draining" : ready_ ? "ok" : "loading"}});
  response.status = serving ? 200 : 503;
  return response;
}

HttpResponse Api::metrics(const HttpRequest&) {
  std::vector<std::pair<std::string, EngineStats>> engines;
  if (ready_)
    for (const ServedModel& model : models_) engines.emplace_back(model.name, model.engine->stats());
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = metrics_.render(engines);
  return response;
}

HttpResponse Api::version(const HttpRequest&) {
  return json_response({{"version", options_.version}});
}

}  // namespace llmctl::serve
