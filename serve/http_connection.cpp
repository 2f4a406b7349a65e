// SPDX-License-Identifier: Apache-2.0
// clang-format off
#include <utility>  // before asio: 1.74 uses std::exchange without it
// clang-format on
#include "serve/http_connection.h"

#include <poll.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http.hpp>

// gcc 12 takes asio's own frame allocator for a mismatched pair.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace llmctl::serve {

namespace http = boost::beast::http;
using error_code = boost::system::error_code;
using std::chrono::milliseconds;
constexpr int kClosed = -1;  // read results: 0 is well, above 0 the status to refuse with

namespace {

auto into(error_code& ec) {
  return asio::redirect_error(asio::use_awaitable, ec);
}

// Cancels the socket's operations once the time is over, again and again until it is destroyed: a
// composed read may just be between two operations when the first cancel comes.
class Deadline {
 public:
  Deadline(tcp::socket& socket, milliseconds time) : state_(std::make_shared<State>(socket)) {
    arm(state_, time);
  }
  ~Deadline() {
    state_->over = true;
    state_->timer.cancel();
  }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  bool expired() const { return state_->expired; }

 private:
  struct State {
    explicit State(tcp::socket& s) : socket(s), timer(s.get_executor()) {}
    tcp::socket& socket;
    asio::steady_timer timer;
    bool over = false, expired = false;
  };
  static void arm(const std::shared_ptr<State>& state, milliseconds time) {
    state->timer.expires_after(time);
    state->timer.async_wait([state](const error_code& ec) {
      if (ec || state->over) return;
      state->expired = true;
      error_code ignored;
      state->socket.cancel(ignored);
      arm(state, milliseconds(50));
    });
  }
  std::shared_ptr<State> state_;
};

int status_of(const error_code& ec, bool target_seen) {
  if (ec == http::error::header_limit || ec == http::error::buffer_overflow) return target_seen ? 431 : 414;
  if (ec == http::error::body_limit) return 413;
  if (ec == http::error::bad_version) return 505;
  return 400;
}

std::string message_of(int status, const HttpLimits& limits, const error_code& ec) {
  switch (status) {
    case 408:
      return "the request did not arrive in time; send it at once or raise the time-out";
    case 413:
      return "the body is larger than " + std::to_string(limits.body_bytes) + " bytes (--max-body)";
    case 414:
      return "the request target is longer than " + std::to_string(limits.target_bytes) + " bytes";
    case 417:
      return "the only expectation understood is 100-continue";
    case 431:
      return "the header is larger than " + std::to_string(limits.header_bytes) + " bytes";
    case 501:
      return "the only transfer-encoding understood is chunked";
    case 505:
      return "the protocol version is not HTTP/1.0 or HTTP/1.1";
    default:
      return "malformed HTTP request" + (ec ? ": " + ec.message() : std::string());
  }
}

}  // namespace

struct Connection::Incoming {
  explicit Incoming(const HttpLimits& limits) {
    parser.header_limit(static_cast<std::uint32_t>(limits.header_bytes));
    parser.body_limit(limits.body_bytes);
  }
  http::request_parser<http::string_body> parser;
  HttpRequest request;
  error_code ec;  // of the read that failed
  bool http_1_1 = true, head_only = false, expects = false;

  void take_head() {
    const auto& message = parser.get();
    request.method = std::string(message.method_string());
    request.target = std::string(message.target());
    const size_t mark = request.target.find('?');
    request.path = request.target.substr(0, mark);
    if (mark != std::string::npos) request.query = request.target.substr(mark + 1);
    for (const auto& field : message)
      request.headers.emplace_back(lower_case(std::string(field.name_string())), std::string(field.value()));
    request.has_length = parser.chunked() || message.find(http::field::content_length) != message.end();
    request.id = request_id_from(request.header("x-request-id"));
    http_1_1 = message.version() >= 11;
    head_only = request.method == "HEAD";
  }
};

Connection::Connection(tcp::socket socket, ConnectionSet& set)
    : socket_(std::move(socket)),
      set_(set),
      ready_(socket_.get_executor()),
      buffer_(set.limits.header_bytes + (64 << 10)) {}

asio::awaitable<void> Connection::run(std::shared_ptr<Connection> self) {
  error_code ignored;
  self->socket_.set_option(tcp::no_delay(true), ignored);
  for (;;) {
    const bool again = co_await self->serve_one();
    if (!again) break;
  }
  co_await self->linger();
  self->socket_.close(ignored);
  const std::lock_guard lock(self->set_.mutex);
  self->set_.open.erase(self.get());
}

asio::awaitable<void> Connection::turn_away(std::shared_ptr<Connection> self) {
  Incoming in(self->set_.limits);
  in.request.id = request_id_from({});
  self->unread_ = true;
  HttpResponse busy = self->set_.handler.error(503, "too many connections; try again later");
  busy.headers.emplace_back("retry-after", "1");
  co_await self->reply(in, std::move(busy), false);
  co_await self->linger();
  error_code ignored;
  self->socket_.close(ignored);
  const std::lock_guard lock(self->set_.mutex);
  self->set_.open.erase(self.get());
}

void Connection::nudge() {
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    error_code ignored;
    if (self->set_.stopping || (self->set_.draining && self->idle_)) self->socket_.close(ignored);
    self->ready_.cancel();
  });
}

// One request and its answer. False when the connection is to end.
asio::awaitable<bool> Connection::serve_one() {
  const bool arrived = co_await first_byte();
  if (!arrived) co_return false;
  Incoming in(set_.limits);
  unread_ = true;
  int refused = co_await read_head(in);
  if (refused == 0) {
    in.take_head();
    if (in.request.target.size() > set_.limits.target_bytes) refused = 414;
    std::optional<HttpResponse> refusal;
    if (refused == 0) refusal = set_.handler.refuse(in.request);
    const bool has_body = !in.parser.is_done();
    if (refusal) {
      unread_ = has_body;
      co_return co_await reply(in, std::move(*refusal), in.parser.keep_alive() && !has_body);
    }
    if (refused == 0) refused = co_await read_body(in);
  }
  if (refused == kClosed) co_return false;
  if (refused > 0) {
    if (in.request.id.empty()) in.request.id = request_id_from({});
    co_return co_await reply(in, set_.handler.error(refused, message_of(refused, set_.limits, in.ec)), false);
  }
  unread_ = false;
  served_any_ = true;
  in.request.body = std::move(in.parser.get().body());
  HttpResponse response = set_.handler.handle(in.request);
  const bool keep_alive = in.parser.keep_alive();
  if (response.pending) co_return co_await reply_pending(in, std::move(response), keep_alive);
  co_return co_await reply(in, std::move(response), keep_alive);
}

asio::awaitable<bool> Connection::first_byte() {
  if (buffer_.size() > 0) co_return true;
  if (set_.draining || set_.stopping) co_return false;
  idle_ = true;
  error_code ec;
  const Deadline deadline(socket_, served_any_ ? set_.limits.idle_time : set_.limits.header_time);
  const size_t n = co_await socket_.async_read_some(buffer_.prepare(4096), into(ec));
  idle_ = false;
  buffer_.commit(n);
  co_return !ec && n > 0;
}

asio::awaitable<int> Connection::read_head(Incoming& in) {
  const Deadline deadline(socket_, set_.limits.header_time);
  for (bool line_taken = false;;) {  // the parser takes the request line before the fields
    const auto seen = buffer_.data();
    const std::string_view text(static_cast<const char*>(seen.data()), seen.size());
    if (!line_taken && is_malformed_start(text.substr(0, set_.limits.target_bytes + 64))) co_return 400;
    const size_t taken = in.parser.put(seen, in.ec);
    line_taken = line_taken || taken > 0 || text.find('\n') != std::string_view::npos;
    buffer_.consume(taken);
    if (!in.ec && in.parser.is_header_done()) break;
    if (in.ec && in.ec != http::error::need_more) co_return status_of(in.ec, line_taken);
    const size_t n = co_await socket_.async_read_some(buffer_.prepare(4096), into(in.ec));
    if (deadline.expired()) co_return 408;
    if (in.ec) co_return kClosed;
    buffer_.commit(n);
  }
  const auto& message = in.parser.get();
  if (message.find(http::field::transfer_encoding) != message.end() && !in.parser.chunked()) co_return 501;
  const auto expect = message.find(http::field::expect);
  if (expect != message.end()) {
    if (lower_case(std::string(expect->value())) != "100-continue") co_return 417;
    in.expects = true;
  }
  co_return 0;
}

asio::awaitable<int> Connection::read_body(Incoming& in) {
  if (in.parser.is_done()) co_return 0;
  if (in.expects && in.http_1_1 && buffer_.size() == 0) {
    const bool sent = co_await write("HTTP/1.1 100 Continue\r\n\r\n");
    if (!sent) co_return kClosed;
  }
  const uint64_t bytes = in.parser.content_length() ? *in.parser.content_length() : set_.limits.body_bytes;
  const Deadline deadline(
      socket_, set_.limits.body_time + milliseconds(bytes * 1000 / set_.limits.body_bytes_per_second));
  co_await http::async_read(socket_, buffer_, in.parser, into(in.ec));
  if (deadline.expired()) co_return 408;
  if (in.ec == http::error::end_of_stream || in.ec == http::error::partial_message) co_return kClosed;
  if (!in.ec) co_return 0;
  const bool parse_failed = in.ec.category() == make_error_code(http::error::bad_chunk).category();
  co_return parse_failed ? (in.ec == http::error::body_limit ? 413 : 400) : kClosed;
}

asio::awaitable<bool> Connection::reply(const Incoming& in, HttpResponse response, bool keep_alive) {
  keep_alive = keep_alive && !set_.draining && !set_.stopping;
  std::string text = response_head(response, in.request.id, static_cast<int64_t>(response.body.size()),
                                   keep_alive, in.http_1_1);
  if (!in.head_only) text += response.body;
  set_.handler.answered(in.request, response.status);
  const bool written = co_await write(std::move(text));
  co_return written&& keep_alive;
}

// Waits until pending has bytes or is done. False when the client or the server is gone.
asio::awaitable<bool> Connection::wait_for(PendingReply& pending, std::string& out, bool& done) {
  for (;;) {
    done = pending.advance(out);
    if (done || !out.empty()) co_return true;
    if (set_.stopping || client_gone()) co_return false;
    error_code woken;  // no suspension between advance() and this wait, so no wake is lost
    ready_.expires_after(milliseconds(100));
    co_await ready_.async_wait(into(woken));
  }
}

asio::awaitable<bool> Connection::reply_pending(const Incoming& in, HttpResponse response, bool keep_alive) {
  response.pending->attach([weak = weak_from_this(), executor = socket_.get_executor()] {
    asio::post(executor, [weak] {
      if (const auto self = weak.lock()) self->ready_.cancel();
    });
  });
  bool ok = false;
  if (response.streamed) {
    ok = co_await send_stream(in, response, keep_alive);
  } else {
    bool done = false;
    if (co_await wait_for(*response.pending, response.body, done)) {
      response.status = response.pending->status();
      ok = co_await reply(in, response, keep_alive);
    } else {
      set_.handler.answered(in.request, 499);  // nginx's number for a client that left
    }
  }
  response.pending->abandon();
  co_return ok;
}

asio::awaitable<bool> Connection::send_stream(const Incoming& in, const HttpResponse& response,
                                              bool keep_alive) {
  keep_alive = keep_alive && in.http_1_1 && !set_.draining;
  std::string text = response_head(response, in.request.id, -1, keep_alive, in.http_1_1);
  bool ok = co_await write(std::move(text));
  for (bool done = false; ok && !done;) {
    std::string piece;
    ok = co_await wait_for(*response.pending, piece, done);
    if (!ok || client_gone()) {
      ok = false;
      break;
    }
    std::string framed = in.http_1_1 ? (piece.empty() ? std::string() : chunk_of(piece)) : piece;
    if (done && in.http_1_1) framed += "0\r\n\r\n";
    ok = co_await write(std::move(framed));
  }
  set_.handler.answered(in.request, ok ? response.status : 499);
  co_return ok&& keep_alive;
}

asio::awaitable<bool> Connection::write(std::string data) {
  error_code ec;
  const Deadline deadline(socket_, set_.limits.write_time);
  co_await asio::async_write(socket_, asio::buffer(data), into(ec));
  co_return !ec;
}

// A close with unread input makes the kernel reset the connection, and the client may lose the
// answer: say that we are done, then read on for a moment.
asio::awaitable<void> Connection::linger() {
  error_code ec;
  if (!unread_ || !socket_.is_open() || set_.stopping) co_return;
  socket_.shutdown(tcp::socket::shutdown_send, ec);
  const Deadline deadline(socket_, milliseconds(2000));
  char scratch[4096];
  uint64_t left = uint64_t{64} << 20;
  while (!ec && left > 0) {
    const size_t n = co_await socket_.async_read_some(asio::buffer(scratch), into(ec));
    left -= std::min<uint64_t>(left, n);
    if (deadline.expired()) break;
  }
}

// Half-closing counts as leaving, as in most servers: an HTTP client that waits keeps its side open.
bool Connection::client_gone() {
  if (!socket_.is_open()) return true;
  pollfd probe{socket_.native_handle(), POLLRDHUP, 0};
  return poll(&probe, 1, 0) > 0 && (probe.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

}  // namespace llmctl::serve
