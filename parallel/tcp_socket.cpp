// SPDX-License-Identifier: Apache-2.0
#include "parallel/tcp_socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

namespace llmctl {
namespace {

struct Found {  // an address that getaddrinfo gave
  sockaddr_storage address{};
  socklen_t size = 0;
};

std::vector<Found> look_up(const std::string& host, int port, bool passive, std::string& why) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = passive ? AI_PASSIVE : 0;
  addrinfo* list = nullptr;
  const int rc =
      ::getaddrinfo(host.empty() ? nullptr : host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (rc != 0) {
    why = ::gai_strerror(rc);
    return {};
  }
  std::vector<Found> found;
  for (const addrinfo* a = list; a; a = a->ai_next) {
    Found f;
    std::memcpy(&f.address, a->ai_addr, a->ai_addrlen);
    f.size = a->ai_addrlen;
    found.push_back(f);
  }
  ::freeaddrinfo(list);
  return found;
}

void set_up(int fd) {
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
}

// Milliseconds for poll, at least 0.
int left(CommClock::time_point deadline) {
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(deadline - CommClock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(ms, 0, 1 << 30));
}

bool ready(int fd, short events, CommClock::time_point deadline) {
  pollfd p{fd, events, 0};
  int rc;
  do rc = ::poll(&p, 1, left(deadline));
  while (rc < 0 && errno == EINTR);
  return rc > 0;
}

Socket connect_once(const Found& to, CommClock::time_point deadline, std::string& why) {
  Socket s(::socket(to.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!s) {
    why = std::strerror(errno);
    return {};
  }
  set_up(s.fd());
  int code = ::connect(s.fd(), reinterpret_cast<const sockaddr*>(&to.address), to.size) == 0 ? 0 : errno;
  if (code == EINPROGRESS) {
    socklen_t size = sizeof code;
    code = ETIMEDOUT;
    const auto patience = std::min(deadline, CommClock::now() + std::chrono::seconds(3));
    if (ready(s.fd(), POLLOUT, patience)) ::getsockopt(s.fd(), SOL_SOCKET, SO_ERROR, &code, &size);
  }
  if (code == 0) return s;
  why = std::strerror(code);
  return {};
}

}  // namespace

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

Socket listen_on(int* port, const std::string& address) {
  std::string why = "no address";
  std::vector<Found> all = look_up(address, *port, true, why);
  // IPv6 first: where the machine has it, it takes IPv4 too.
  std::stable_sort(all.begin(), all.end(), [](const Found& a, const Found& b) {
    return a.address.ss_family == AF_INET6 && b.address.ss_family != AF_INET6;
  });
  for (const Found& f : all) {
    Socket s(::socket(f.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int one = 1, zero = 0;
    if (s) ::setsockopt(s.fd(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (s && f.address.ss_family == AF_INET6)
      ::setsockopt(s.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    sockaddr_storage bound{};
    socklen_t size = sizeof bound;
    if (!s || ::bind(s.fd(), reinterpret_cast<const sockaddr*>(&f.address), f.size) != 0 ||
        ::listen(s.fd(), 1024) != 0 ||
        ::getsockname(s.fd(), reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
      why = std::strerror(errno);
      continue;
    }
    *port = ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                              : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
    return s;
  }
  throw Error(Code::device, "[comm] cannot listen on port " + std::to_string(*port) + ": " + why +
                                "; give another MASTER_PORT");
}

Socket accept_from(const Socket& listener, CommClock::time_point deadline) {
  if (!ready(listener.fd(), POLLIN, deadline)) return {};
  Socket s(::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC));
  if (s) set_up(s.fd());
  return s;
}

Socket connect_to(const Endpoint& to, CommClock::time_point deadline) {
  std::string why = "no address";
  for (auto pause = std::chrono::milliseconds(10);;
       pause = std::min(pause * 2, std::chrono::milliseconds(1000))) {
    for (const Found& f : look_up(to.host, to.port, false, why))
      if (Socket s = connect_once(f, deadline, why)) return s;
    if (CommClock::now() + pause >= deadline)
      throw Error(Code::device,
                  "[comm] cannot connect to " + to.text() + ": " + why + "; is rank 0 running there?");
    std::this_thread::sleep_for(pause);
  }
}

bool resolves(const std::string& host) {
  std::string why;
  return !look_up(host, 1, false, why).empty();
}

std::string address_of_peer(const Socket& socket) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  char host[NI_MAXHOST] = "?";
  if (::getpeername(socket.fd(), reinterpret_cast<sockaddr*>(&peer), &size) == 0)
    ::getnameinfo(reinterpret_cast<sockaddr*>(&peer), size, host, sizeof host, nullptr, 0, NI_NUMERICHOST);
  const std::string text = host;
  return text.rfind("::ffff:", 0) == 0 ? text.substr(7) : text;
}

bool write_all(const Socket& socket, std::span<const std::byte> data, CommClock::time_point deadline,
               std::string& why) {
  while (!data.empty()) {
    const ssize_t n = ::send(socket.fd(), data.data(), data.size(), MSG_NOSIGNAL);
    if (n > 0) {
      data = data.subspan(static_cast<size_t>(n));
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
      why = std::strerror(errno);
      return false;
    } else if (!ready(socket.fd(), POLLOUT, deadline)) {
      why = "it does not listen";
      return false;
    }
  }
  return true;
}

bool read_all(const Socket& socket, std::span<std::byte> data, CommClock::time_point deadline,
              std::string& why) {
  while (!data.empty()) {
    const ssize_t n = ::recv(socket.fd(), data.data(), data.size(), 0);
    if (n > 0) {
      data = data.subspan(static_cast<size_t>(n));
    } else if (n == 0) {
      why = "it closed the connection";
      return false;
    } else if (errno != EAGAIN && errno != EINTR) {
      why = std::strerror(errno);
      return false;
    } else if (!ready(socket.fd(), POLLIN, deadline)) {
      why = "it says nothing";
      return false;
    }
  }
  return true;
}

}  // namespace llmctl
