// SPDX-License-Identifier: Apache-2.0
// One connection: reads requests under limits, answers them in order, and watches for the client
// going away while an answer is being made. Everything of one connection runs on its own strand.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "serve/http.h"

namespace llmctl::serve {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;

class Connection;

// What connections share. Lives longer than every one of them.
struct ConnectionSet {
  ConnectionSet(HttpHandler& h, HttpLimits l) : handler(h), limits(l) {}
  HttpHandler& handler;
  const HttpLimits limits;
  std::atomic<bool> draining{false}, stopping{false};
  std::mutex mutex;
  std::set<Connection*> open;  // guarded by mutex; a connection leaves it before it ends
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, ConnectionSet& set);
  // Serves until the connection ends. Holds itself alive.
  static asio::awaitable<void> run(std::shared_ptr<Connection> self);
  // Answers "too many connections" and closes.
  static asio::awaitable<void> turn_away(std::shared_ptr<Connection> self);
  // From any thread: closes now when idle (draining) or whatever it does (stopping).
  void nudge();

 private:
  struct Incoming;
  asio::awaitable<bool> serve_one();
  asio::awaitable<bool> first_byte();
  asio::awaitable<int> read_head(Incoming& in);
  asio::awaitable<int> read_body(Incoming& in);
  asio::awaitable<bool> reply(const Incoming& in, HttpResponse response, bool keep_alive);
  asio::awaitable<bool> reply_pending(const Incoming& in, HttpResponse response, bool keep_alive);
  asio::awaitable<bool> send_stream(const Incoming& in, const HttpResponse& response, bool keep_alive);
  asio::awaitable<bool> wait_for(PendingReply& pending, std::string& out, bool& done);
  asio::awaitable<bool> write(std::string data);
  asio::awaitable<void> linger();
  bool client_gone();

  tcp::socket socket_;
  ConnectionSet& set_;
  asio::steady_timer ready_;  // cancelled to wake the coroutine
  boost::beast::flat_buffer buffer_;
  bool idle_ = false, served_any_ = false, unread_ = false;
};

}  // namespace llmctl::serve
