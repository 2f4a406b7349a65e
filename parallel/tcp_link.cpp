// SPDX-License-Identifier: Apache-2.0
#include "parallel/tcp_link.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace llmctl {
namespace {
constexpr size_t kChunk = 256 << 10;
}

size_t TcpLink::payload() const {
  return header.type == FrameType::offer || header.type == FrameType::take ? 0 : header.bytes;
}

bool TcpLink::admit() {
  const auto stored = [&](size_t most) {
    if (header.bytes > most) return false;
    scratch.resize(std::max(scratch.size(), static_cast<size_t>(header.bytes)));
    return true;
  };
  if (header.kind >= kCommKinds) return false;
  switch (header.type) {
    case FrameType::small:
      return stored(kTcpSmall);
    case FrameType::beat:
      return header.bytes == kTcpBoard * sizeof(uint64_t) && stored(header.bytes);
    case FrameType::abandon:
      return stored(kTcpReason);
    case FrameType::offer:
    case FrameType::data:
      return header.bytes > kTcpSmall;
    case FrameType::take:
    case FrameType::bye:
      return header.bytes == 0;
  }
  return false;
}

std::span<std::byte> TcpLink::place() {
  if (have < sizeof header) return writable_bytes_of(std::span(&header, 1)).subspan(have);
  const size_t done = have - sizeof header, left = payload() - done;
  if (header.type != FrameType::data) return std::span(scratch).subspan(done, left);
  if (target && target->how == Combine::copy) return target->into.subspan(done, left);
  if (scratch.size() < kChunk) scratch.resize(kChunk);
  return std::span(scratch).subspan(done % kChunk, std::min(left, kChunk - done % kChunk));
}

void TcpLink::absorb() {
  if (header.type != FrameType::data || target->how == Combine::copy) return;
  const size_t done = have - sizeof header;
  if (done % kChunk != 0 && done != header.bytes) return;
  const size_t size = done % kChunk == 0 ? kChunk : done % kChunk;
  combine(target->how, target->into.subspan(done - size, size), std::span(scratch).first(size));
}

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
