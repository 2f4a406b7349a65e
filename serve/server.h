// SPDX-License-Identifier: Apache-2.0
// The server as a value: made, it listens and answers /health with 503; ready, it serves; stopped,
// it lets running requests finish. cmd/serve.cpp runs it until a signal, `demo` in its own process.
//
//   serve::Server server(options);
//   server.ready({model}, guard);
//   ... http clients at server.url() ...
//   server.stop();
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serve/generation.h"
#include "serve/guard.h"
#include "serve/http.h"

namespace llmctl::serve {

struct ServerOptions {
  HttpOptions http;
  std::string api_key;            // "" asks for none
  std::string cors_origin = "*";  // "" sends no CORS headers
  std::string version;
  int max_waiting = 1024;                        // queued requests per model before 503
  std::chrono::milliseconds drain_time{30'000};  // how long stop() waits for running requests
};

// Threads: ready() and stop() from the thread that made it.
class Server {
 public:
  // Error{io|usage} when the address cannot be had.
  explicit Server(ServerOptions options);
  ~Server();  // stop()
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void ready(std::vector<ServedModel> models, std::shared_ptr<const Guard> guard);
  int port() const;
  std::string url() const;  // http://HOST:PORT
  // Stops accepting, waits up to drain_time for running requests, cancels the rest. Idempotent.
  void stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// What there is to serve. Engines are shared: they outlive the requests that run in them.
struct Loaded {
  std::vector<ServedModel> models;
  std::shared_ptr<const Guard> guard;  // may be null
};

// Listens, then loads (/health answers 503 meanwhile), then serves until stop_wanted() is true,
// which is asked several times a second; then drains. `listening` is called with the url once
// requests can be answered.
void run_server(const ServerOptions& options, const std::function<Loaded()>& load,
                const std::function<void(const std::string&)>& listening,
                const std::function<bool()>& stop_wanted);

}  // namespace llmctl::serve
