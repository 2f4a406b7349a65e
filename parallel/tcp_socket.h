// SPDX-License-Identifier: Apache-2.0
// Sockets of the TCP engine: IPv4 and IPv6, non-blocking once connected. Errors: Error{device}.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "parallel/transport.h"

namespace llmctl {

struct Endpoint {
  std::string host;  // a name or an address
  int port = 0;
  std::string text() const { return host + ":" + std::to_string(port); }
};

// A file descriptor, closed at the end.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& o) noexcept : fd_(o.fd_) { o.fd_ = -1; }
  Socket& operator=(Socket&& o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  ~Socket();
  int fd() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Listens on every interface; port 0 picks one, which is returned in *port. One address may be named, to
// listen there only.
Socket listen_on(int* port, const std::string& address = "");
// The next connection, or none before the deadline.
Socket accept_from(const Socket& listener, CommClock::time_point deadline);
// Tries again with growing pauses until the deadline: the other side may not have started yet.
Socket connect_to(const Endpoint& to, CommClock::time_point deadline);
bool resolves(const std::string& host);
std::string address_of_peer(const Socket& socket);

// Whole buffers, before the deadline; `why` on failure.
bool write_all(const Socket& socket, std::span<const std::byte> data, CommClock::time_point deadline,
               std::string& why);
bool read_all(const Socket& socket, std::span<std::byte> data, CommClock::time_point deadline,
              std::string& why);

}  // namespace llmctl
