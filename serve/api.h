// SPDX-License-Identifier: Apache-2.0
// The routes: OpenAI's /v1/models, /v1/chat/completions, /v1/completions, /v1/moderations, and
// /tokenize, /detokenize, /health, /metrics, /version. One rule of authorisation: with a key set,
// every route but the last three and CORS preflights wants it.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "serve/api_error.h"
#include "serve/generation.h"
#include "serve/guard.h"
#include "serve/http.h"
#include "serve/metrics.h"

namespace llmctl::serve {

struct ApiOptions {
  std::string api_key;            // "" asks for none
  std::string cors_origin = "*";  // "" sends no CORS headers
  std::string version;            // shown by /version
  int max_waiting = 1024;         // requests queued in a model's engine before 503
};

class Api final : public HttpHandler {
 public:
  explicit Api(ApiOptions options) : options_(std::move(options)) {}
  // Until this is called, the routes that need a model answer 503. Once, before any other thread
  // can see ready. guard may be null: then /v1/moderations answers 501.
  void set_ready(std::vector<ServedModel> models, std::shared_ptr<const Guard> guard);
  // /health answers 503 from now on, so that a balancer looks elsewhere.
  void set_draining() { draining_ = true; }

  std::optional<HttpResponse> refuse(const HttpRequest& head) override;
  HttpResponse handle(const HttpRequest& request) override;
  HttpResponse error(int status, const std::string& message) override;
  void answered(const HttpRequest& request, int status) override;

 private:
  struct Route;
  static const std::vector<Route>& routes();
  const Route* find(const std::string& path) const;
  void check_head(const HttpRequest& head) const;
  HttpResponse finish(HttpResponse response) const;
  const ServedModel& model_named(const std::string& name) const;

  HttpResponse list_models(const HttpRequest& request);
  HttpResponse show_model(const HttpRequest& request);
  HttpResponse chat(const HttpRequest& request);
  HttpResponse completion(const HttpRequest& request);
  HttpResponse generate(const HttpRequest& request, bool chat);
  HttpResponse moderate(const HttpRequest& request);
  HttpResponse tokenize(const HttpRequest& request);
  HttpResponse detokenize(const HttpRequest& request);
  HttpResponse health(const HttpRequest& request);
  HttpResponse metrics(const HttpRequest& request);
  HttpResponse version(const HttpRequest& request);

  const ApiOptions options_;
  std::vector<ServedModel> models_;
  std::shared_ptr<const Guard> guard_;
  std::atomic<bool> ready_{false}, draining_{false};
  Metrics metrics_;
};

}  // namespace llmctl::serve
