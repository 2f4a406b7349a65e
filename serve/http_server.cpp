// SPDX-License-Identifier: Apache-2.0
// clang-format off
#include <utility>  // before asio: 1.74 uses std::exchange without it
// clang-format on
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <thread>

#include "serve/http_connection.h"

// gcc 12 takes asio's own frame allocator for a mismatched pair.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace llmctl::serve {

using error_code = boost::system::error_code;

struct HttpServer::State {
  State(HttpHandler& handler, const HttpOptions& options)
      : set(handler, options.limits), acceptor(asio::make_strand(io)), work(asio::make_work_guard(io)) {}

  void listen(const HttpOptions& options);
  asio::awaitable<void> accept_loop();
  void admit(tcp::socket socket);
  void nudge_all();
  void close_acceptor() {
    asio::post(acceptor.get_executor(), [this] {
      error_code ignored;
      acceptor.close(ignored);
    });
  }

  asio::io_context io;
  ConnectionSet set;
  tcp::acceptor acceptor;
  asio::executor_work_guard<asio::io_context::executor_type> work;
  std::vector<std::thread> threads;
  int port = 0;
};

void HttpServer::State::listen(const HttpOptions& options) {
  error_code ec;
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(options.host, std::to_string(options.port),
                                      tcp::resolver::passive | tcp::resolver::numeric_service, ec);
  check(!ec && !found.empty(), Code::usage, "[serve] --host ", options.host, ": ", ec.message(),
        ", give an address of this machine");
  const tcp::endpoint where = found.begin()->endpoint();
  acceptor.open(where.protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor.bind(where, ec);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  check(!ec, Code::io, "[serve] cannot listen on ", options.host, ":", options.port, ": ", ec.message(),
        ", choose another --port or --host");
  port = acceptor.local_endpoint().port();
}

asio::awaitable<void> HttpServer::State::accept_loop() {
  while (acceptor.is_open()) {
    error_code ec;
    tcp::socket socket(asio::make_strand(io));
    co_await acceptor.async_accept(socket, asio::redirect_error(asio::use_awaitable, ec));
    if (!ec) {
      admit(std::move(socket));
    } else if (ec != asio::error::operation_aborted) {  // out of descriptors, say: wait for some
      asio::steady_timer pause(acceptor.get_executor(), std::chrono::milliseconds(50));
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    }
  }
}

void HttpServer::State::admit(tcp::socket socket) {
  const auto executor = socket.get_executor();
  const auto connection = std::make_shared<Connection>(std::move(socket), set);
  bool full = false;
  {
    const std::lock_guard lock(set.mutex);
    full = static_cast<int>(set.open.size()) >= set.limits.connections;
    set.open.insert(connection.get());
  }
  asio::co_spawn(executor, full ? Connection::turn_away(connection) : Connection::run(connection),
                 [this, connection](std::exception_ptr failed) {
                   if (!failed) return;  // a broken connection ends alone
                   const std::lock_guard lock(set.mutex);
                   set.open.erase(connection.get());
                 });
}

void HttpServer::State::nudge_all() {
  const std::lock_guard lock(set.mutex);
  for (Connection* connection : set.open) connection->nudge();
}

HttpServer::HttpServer(const HttpOptions& options, HttpHandler& handler)
    : state_(std::make_unique<State>(handler, options)) {
  state_->listen(options);
  asio::co_spawn(state_->acceptor.get_executor(), state_->accept_loop(), asio::detached);
  for (int i = 0; i < options.threads; ++i)
    state_->threads.emplace_back([state = state_.get()] { state->io.run(); });
}

HttpServer::~HttpServer() {
  stop();
}

int HttpServer::port() const {
  return state_->port;
}

int HttpServer::connections() const {
  const std::lock_guard lock(state_->set.mutex);
  return static_cast<int>(state_->set.open.size());
}

void HttpServer::drain() {
  state_->set.draining = true;
  state_->close_acceptor();
  state_->nudge_all();
}

void HttpServer::stop() {
  state_->set.draining = state_->set.stopping = true;
  state_->close_acceptor();
  // Again and again: a connection may just have been accepted, or be between two operations.
  while (connections() > 0) {
    state_->nudge_all();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  state_->work.reset();
  for (auto& thread : state_->threads)
    if (thread.joinable()) thread.join();
}

}  // namespace llmctl::serve
