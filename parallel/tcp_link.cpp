// SPDX-License-Identifier: Apache-2.0
#include "parallel/tcp_link.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>

namespace llmctl {

bool TcpLink::flush(std::string& why) {
  constexpr size_t kBurst = 4 << 20;
  size_t sent = 0;
  while (!out.empty() && sent < kBurst) {
    Frame& f = out.front();
    const std::span<const std::byte> payload = f.source ? f.source->data : std::span<const std::byte>(f.own);
    const auto head = std::as_bytes(std::span(&f.header, 1));
    const size_t past = f.written > head.size() ? f.written - head.size() : 0;
    iovec parts[2];
    int count = 0;
    if (f.written < head.size())
      parts[count++] = {const_cast<std::byte*>(head.data()) + f.written, head.size() - f.written};
    if (past < payload.size())
      parts[count++] = {const_cast<std::byte*>(payload.data()) + past,
                        std::min(payload.size() - past, kBurst)};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = static_cast<size_t>(count);
    const ssize_t n = ::sendmsg(socket.fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return true;
    if (n < 0) {
      why = std::strerror(errno);
      shut = true;
      return false;
    }
    f.written += static_cast<size_t>(n);
    sent += static_cast<size_t>(n);
    if (f.written < head.size() + payload.size()) continue;
    if (f.source) f.source->finished.store(true, std::memory_order_release);
    out.pop_front();
  }
  return true;
}

}  // namespace llmctl
