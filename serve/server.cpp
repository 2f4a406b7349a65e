// SPDX-License-Identifier: Apache-2.0
#include "serve/server.h"

#include <thread>

#include "serve/api.h"

namespace llmctl::serve {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

struct Server::State {
  explicit State(ServerOptions o)
      : options(std::move(o)),
        api({options.api_key, options.cors_origin, options.version, options.max_waiting}),
        http(options.http, api) {}
  ServerOptions options;
  Api api;  // outlives http
  HttpServer http;
  bool stopped = false;
};

Server::Server(ServerOptions options) : state_(std::make_unique<State>(std::move(options))) {}
Server::~Server() {
  stop();
}

void Server::ready(std::vector<ServedModel> models, std::shared_ptr<const Guard> guard) {
  state_->api.set_ready(std::move(models), std::move(guard));
}

int Server::port() const {
  return state_->http.port();
}

std::string Server::url() const {
  const std::string& host = state_->options.http.host;
  const bool v6 = host.find(':') != std::string::npos;
  return "http://" + (v6 ? '[' + host + ']' : host) + ':' + std::to_string(port());
}

void Server::stop() {
  if (state_->stopped) return;
  state_->stopped = true;
  state_->api.set_draining();
  state_->http.drain();
  const auto end = steady_clock::now() + state_->options.drain_time;
  while (state_->http.connections() > 0 && steady_clock::now() < end)
    std::this_thread::sleep_for(milliseconds(10));
  state_->http.stop();
}

void run_server(const ServerOptions& options, const std::function<Loaded()>& load,
                const std::function<void(const std::string&)>& listening,
                const std::function<bool()>& stop_wanted) {
  Server server(options);
  Loaded loaded = load();
  server.ready(std::move(loaded.models), std::move(loaded.guard));
  listening(server.url());
  while (!stop_wanted()) std::this_thread::sleep_for(milliseconds(50));
  server.stop();
}

}  // namespace llmctl::serve
