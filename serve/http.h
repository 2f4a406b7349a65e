// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 (RFC 9110, 9112) on plain values: requests in, responses out, with every limit stated.
// The handler sees whole requests; a reply made over time is a PendingReply that the connection
// pulls from whenever it is woken, so that nothing here waits for the engine.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/error.h"

namespace llmctl::serve {

using Header = std::pair<std::string, std::string>;

struct HttpRequest {
  std::string method, target, path, query;  // path as sent, not percent-decoded
  std::vector<Header> headers;              // names in lower case
  std::string body;
  bool has_length = false;  // content-length or chunked was sent
  std::string id;           // x-request-id: the client's when well formed, else ours
  // "" when absent; the first one when repeated.
  std::string_view header(std::string_view lower_case_name) const;
};

// A reply that is not ready yet. All but wake are called on the connection's thread.
class PendingReply {
 public:
  virtual ~PendingReply() = default;
  // wake may be called from any thread whenever advance() could have something new.
  virtual void attach(std::function<void()> wake) = 0;
  // Appends what is ready to out and returns true when that was the last of it. A reply that is
  // not streamed appends its whole body once, together with true.
  virtual bool advance(std::string& out) = 0;
  // Of a reply that is not streamed, after advance() returned true.
  virtual int status() const = 0;
  // The client went away or the server stops: end the work behind it.
  virtual void abandon() = 0;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<Header> headers;
  std::string body;
  std::shared_ptr<PendingReply> pending;  // replaces body when set
  bool streamed = false;                  // pending is sent piece by piece
};

// Called on several threads at once.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Looks at a request before its body is read; a response here refuses it.
  virtual std::optional<HttpResponse> refuse(const HttpRequest& head) = 0;
  virtual HttpResponse handle(const HttpRequest& request) = 0;
  // The body of an error that the HTTP layer itself found.
  virtual HttpResponse error(int status, const std::string& message) = 0;
  // Called once per answered request, with the status that was sent.
  virtual void answered(const HttpRequest& request, int status) = 0;
};

struct HttpLimits {
  uint64_t header_bytes = 32 << 10, target_bytes = 8 << 10, body_bytes = 8 << 20;
  uint64_t body_bytes_per_second = 16 << 10;  // a body may take body_time + size / this
  int connections = 1024;
  std::chrono::milliseconds header_time{10'000}, body_time{30'000}, idle_time{75'000}, write_time{30'000};
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  int port = 8080;  // 0 picks a free one
  int threads = 2;
  HttpLimits limits;
};

class HttpServer {
 public:
  // Binds, listens and serves on its own threads. Error{io} when the address cannot be had.
  // handler must outlive the server.
  HttpServer(const HttpOptions& options, HttpHandler& handler);
  ~HttpServer();  // stop()
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const;
  int connections() const;
  // Stops accepting, closes idle connections; requests in flight go on.
  void drain();
  // Abandons what is in flight, closes everything and joins the threads.
  void stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// ---- text of the protocol, without sockets
const char* reason_of(int status);
std::string lower_case(std::string_view text);
// Bytes of "%XX" and the rest as it is; nullopt on a broken escape.
std::optional<std::string> percent_decode(std::string_view text);
// The head of a response, up to and including the empty line. length < 0: chunked when
// can_chunk, otherwise until close.
std::string response_head(const HttpResponse& response, const std::string& request_id, int64_t length,
                          bool keep_alive, bool can_chunk);
std::string chunk_of(std::string_view data);
// True when what has arrived cannot become a request line: answered at once instead of at the
// time-out. `seen` is what has arrived so far.
bool is_malformed_start(std::string_view seen);
// The client's id when it is 1 to 128 of [A-Za-z0-9._-], else a new one.
std::string request_id_from(std::string_view client_id);

}  // namespace llmctl::serve
