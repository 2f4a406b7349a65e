// SPDX-License-Identifier: Apache-2.0
#include "serve/api.h"

#include <algorithm>

#include "serve/body.h"

namespace llmctl::serve {

struct Api::Route {
  std::string path;
  bool prefix;  // path is followed by a name
  const char* method;
  bool open;         // needs neither the key nor a loaded model
  const char* name;  // in the metrics
  HttpResponse (Api::*run)(const HttpRequest&);
};

const std::vector<Api::Route>& Api::routes() {
  static const std::vector<Route> table{
      {"/v1/chat/completions", false, "POST", false, "/v1/chat/completions", &Api::chat},
      {"/v1/completions", false, "POST", false, "/v1/completions", &Api::completion},
      {"/v1/moderations", false, "POST", false, "/v1/moderations", &Api::moderate},
      {"/v1/models", false, "GET", false, "/v1/models", &Api::list_models},
      {"/v1/models/", true, "GET", false, "/v1/models/{id}", &Api::show_model},
      {"/tokenize", false, "POST", false, "/tokenize", &Api::tokenize},
      {"/detokenize", false, "POST", false, "/detokenize", &Api::detokenize},
      {"/health", false, "GET", true, "/health", &Api::health},
      {"/metrics", false, "GET", true, "/metrics", &Api::metrics},
      {"/version", false, "GET", true, "/version", &Api::version},
  };
  return table;
}

void Api::set_ready(std::vector<ServedModel> models, std::shared_ptr<const Guard> guard) {
  models_ = std::move(models);
  guard_ = std::move(guard);
  ready_ = true;
}

const Api::Route* Api::find(const std::string& path) const {
  for (const Route& route : routes())
    if (route.prefix ? path.size() > route.path.size() && path.compare(0, route.path.size(), route.path) == 0
                     : path == route.path)
      return &route;
  return nullptr;
}

namespace {

// Takes the same time wherever the two differ.
bool same_secret(std::string_view a, std::string_view b) {
  unsigned differ = a.size() != b.size();
  for (size_t i = 0; i < a.size(); ++i)
    differ |=
        static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b.empty() ? '\0' : b[i % b.size()]);
  return differ == 0;
}

bool is_json_type(std::string_view content_type) {
  const std::string type = lower_case(content_type.substr(0, content_type.find(';')));
  const size_t end = type.find_last_not_of(" \t");
  const std::string media = type.substr(0, end == std::string::npos ? 0 : end + 1);
  return media.empty() || media == "application/json" ||
         (media.size() > 5 && media.substr(media.size() - 5) == "+json");
}

bool has_key(const HttpRequest& head, const std::string& key) {
  const std::string_view value = head.header("authorization");
  const size_t space = value.find(' ');
  if (space == std::string_view::npos || lower_case(value.substr(0, space)) != "bearer") return false;
  return same_secret(value.substr(space + 1), key);
}

}  // namespace

// Everything that can be said before the body is read.
void Api::check_head(const HttpRequest& head) const {
  const Route* route = find(head.path);
  if (!options_.api_key.empty() && !(route && route->open) && !has_key(head, options_.api_key))
    throw ApiError(401, "no valid API key: send it as 'Authorization: Bearer KEY'", {}, "invalid_api_key");
  if (!route)
    throw ApiError(404, "there is no route " + head.method + ' ' + head.path.substr(0, 200), {}, "not_found");
  const bool get = std::string_view(route->method) == "GET";
  if (head.method != route->method && !(get && head.method == "HEAD"))
    throw ApiError(405, head.path.substr(0, 200) + " takes " + route->method + ", not " + head.method, {},
                   "method_not_allowed");
  if (!route->open && !ready_)
    throw ApiError(503, "the model is still loading; try again soon", {}, "loading");
  if (get) return;
  if (!head.has_length) throw ApiError(411, "a POST needs a content-length or a chunked body");
  if (!head.header("content-encoding").empty() && lower_case(head.header("content-encoding")) != "identity")
    throw ApiError(415, "a compressed body is not understood; send it as it is");
  if (!is_json_type(head.header("content-type")))
    throw ApiError(415, "the body must be application/json, not " +
                            std::string(head.header("content-type").substr(0, 100)));
}

HttpResponse Api::finish(HttpResponse response) const {
  if (options_.cors_origin.empty()) return response;
  response.headers.emplace_back("access-control-allow-origin", options_.cors_origin);
  response.headers.emplace_back("access-control-expose-headers", "x-request-id, x-seed");
  return response;
}

std::optional<HttpResponse> Api::refuse(const HttpRequest& head) {
  if (head.method == "OPTIONS") {  // a CORS preflight carries no key
    const Route* route = find(head.path);
    HttpResponse response;
    response.status = 204;
    const std::string methods = std::string(route ? route->method : "GET, POST") + ", OPTIONS";
    response.headers = {{"allow", methods},
                        {"access-control-allow-methods", methods},
                        {"access-control-allow-headers", "*, authorization, content-type"},
                        {"access-control-max-age", "86400"}};
    return finish(std::move(response));
  }
  try {
    check_head(head);
    return std::nullopt;
  } catch (const ApiError& e) {
    HttpResponse response = error_response(e);
    const Route* route = find(head.path);
    if (e.status == 405 && route)
      response.headers.emplace_back("allow",
                                    std::string_view(route->method) == "GET" ? "GET, HEAD" : route->method);
    return finish(std::move(response));
  }
}

HttpResponse Api::handle(const HttpRequest& request) {
  try {
    const Route* route = find(request.path);
    check(route != nullptr, Code::bug, "[serve] a request without a route came through: ", request.path);
    return finish((this->*route->run)(request));
  } catch (const ApiError& e) {
    return finish(error_response(e));
  } catch (const Error& e) {
    return finish(error_response(api_error_of(e)));
  } catch (const std::bad_alloc&) {
    return finish(error_response(ApiError(503, "not enough memory for this request", {}, "out_of_memory")));
  } catch (const std::exception& e) {
    return finish(error_response(ApiError(500, std::string("internal error: ") + e.what())));
  }
}

HttpResponse Api::error(int status, const std::string& message) {
  return finish(error_response(ApiError(status, message)));
}

void Api::answered(const HttpRequest& request, int status) {
  const Route* route = find(request.path);
  metrics_.answered(route ? route->name : "other", status);
}

const ServedModel& Api::model_named(const std::string& name) const {
  if (name.empty() && models_.size() == 1) return models_.front();
  const auto at = std::find_if(models_.begin(), models_.end(), [&](const auto& m) { return m.name == name; });
  if (at != models_.end()) return *at;
  if (name.empty()) throw ApiError(400, "'model' is missing; GET /v1/models lists the names", "model");
  throw ApiError(404,
                 "the model '" + name.substr(0, 200) + "' is not served here; GET /v1/models lists the names",
                 "model", "model_not_found");
}

HttpResponse Api::chat(const HttpRequest& request) {
  return generate(request, true);
}
HttpResponse Api::completion(const HttpRequest& request) {
  return generate(request, false);
}

HttpResponse Api::generate(const HttpRequest& request, bool chat) {
  const Body body = parse_body(request.body);
  const ServedModel& model = model_named(BodyFields(body).string("model").value_or(""));
  const int64_t vocab = model.engine->vocab_size();
  GenerationCall call = chat ? parse_chat_call(body, vocab) : parse_completion_call(body, vocab);
  if (model.engine->stats().waiting >= options_.max_waiting)
    throw ApiError(503, "too many requests are waiting; try again later", {}, "overloaded");
  HttpResponse response;
  response.streamed = call.stream;
  if (call.stream) {
    response.content_type = "text/event-stream; charset=utf-8";
    response.headers = {{"cache-control", "no-cache"}, {"x-accel-buffering", "no"}};
  }
  const auto generation = std::make_shared<Generation>(std::move(call), model, metrics_);
  generation->submit();
  response.headers.emplace_back("x-seed", std::to_string(generation->seed()));
  response.pending = generation;
  return response;
}

}  // namespace llmctl::serve
