// SPDX-License-Identifier: Apache-2.0
// The algorithms of GroupComm, see its header. Thakur, Rabenseifner, Gropp 2005 describe them.
#include <algorithm>
#include <cstring>

#include "parallel/group_call.h"

namespace llmctl {
namespace {

constexpr size_t kTree = 64 << 10, kDoubling = 16 << 10;

template <class Span>
Span piece(Span all, CommOffsets offsets, int r) {
  const auto i = static_cast<size_t>(r);
  return all.subspan(static_cast<size_t>(offsets[i]), static_cast<size_t>(offsets[i + 1] - offsets[i]));
}

void check_offsets(CommOffsets offsets, int ranks, size_t total, CommLabel label) {
  check(offsets.size() == static_cast<size_t>(ranks) + 1, Code::bug, "[comm] ", label.what, ": ",
        offsets.size(), " borders for ", ranks, " ranks");
  check(offsets.front() >= 0 && std::is_sorted(offsets.begin(), offsets.end()) &&
            static_cast<size_t>(offsets.back()) <= total,
        Code::bug, "[comm] ", label.what, ": borders up to ", offsets.back(), " of ", total);
}

template <class T>
Combine combine_of(CommOp op) {
  const bool wide = sizeof(T) == 8;
  if (op == CommOp::max) return wide ? Combine::max64 : Combine::max32;
  if (op == CommOp::min) return wide ? Combine::min64 : Combine::min32;
  return wide ? Combine::sum64 : Combine::sum32;
}

template <class T, class F>
void join(std::span<std::byte> into, std::span<const std::byte> from, F f) {
  T* a = reinterpret_cast<T*>(into.data());
  const T* b = reinterpret_cast<const T*>(from.data());
  const size_t n = into.size() / sizeof(T);
  for (size_t i = 0; i < n; ++i) a[i] = f(a[i], b[i]);
}

}  // namespace

void combine(Combine how, std::span<std::byte> into, std::span<const std::byte> from) {
  if (into.empty()) return;
  const auto add = [](auto a, auto b) { return a + b; };
  const auto larger = [](auto a, auto b) { return a > b ? a : b; };
  const auto smaller = [](auto a, auto b) { return a < b ? a : b; };
  switch (how) {
    case Combine::copy:
      std::memcpy(into.data(), from.data(), into.size());
      return;
    case Combine::sum64:
      return join<uint64_t>(into, from, add);
    case Combine::sum32:
      return join<uint32_t>(into, from, add);
    case Combine::max64:
      return join<int64_t>(into, from, larger);
    case Combine::max32:
      return join<int32_t>(into, from, larger);
    case Combine::min64:
      return join<int64_t>(into, from, smaller);
    case Combine::min32:
      return join<int32_t>(into, from, smaller);
  }
}

void GroupComm::barrier(CommLabel label) {
  Call call(*this, CommKind::barrier, label);
  const int n = size();
  for (int k = 1; k < n; k *= 2) {
    call.receive((rank_ - k + n) % n, {});
    call.send((rank_ + k) % n, {});
    call.wait();
  }
}

// Ranks are counted from the root. In the tree, v gets from v without its lowest set bit.
void GroupComm::broadcast(std::span<std::byte> data, int root, CommLabel label) {
  check(root >= 0 && root < size(), Code::bug, "[comm] ", label.what, ": root ", root, " of ", size());
  Call call(*this, CommKind::broadcast, label);
  const int n = size(), v = (rank_ - root + n) % n;
  if (data.empty()) return;
  if (data.size() > kTree && n > 2) {
    const std::vector<int64_t> offsets = even_offsets(static_cast<int64_t>(data.size()), n, 64);
    for (int r = 0; v == 0 && r < n; ++r)
      if (r != rank_ && offsets[static_cast<size_t>(r)] < offsets[static_cast<size_t>(r) + 1])
        call.send(r, piece(data, offsets, r));
    if (v != 0 && !piece(data, offsets, rank_).empty()) call.receive(root, piece(data, offsets, rank_));
    call.wait();
    return gather_pieces(call, data, offsets);
  }
  int below = 1;
  for (; below < n && (v & below) == 0; below *= 2) {
  }
  if (v != 0) {
    call.receive((v - below + root) % n, data);
    call.wait();
  }
  for (below /= 2; below > 0; below /= 2)
    if (v + below < n) call.send((v + below + root) % n, data);
  call.wait();
}

void GroupComm::gather_pieces(Call& call, std::span<std::byte> all, CommOffsets offsets) {
  const int n = size();
  const auto offer = [&](int to, int r) {
    if (!piece(all, offsets, r).empty()) call.send(to, piece(all, offsets, r));
  };
  const auto want = [&](int from, int r) {
    if (!piece(all, offsets, r).empty()) call.receive(from, piece(all, offsets, r));
  };
  const bool straight =
      transport_->shared_memory() || offsets.back() - offsets.front() <= static_cast<int64_t>(kTree);
  for (int s = 1; s < n; ++s) {
    if (straight) {
      want((rank_ - s + n) % n, (rank_ - s + n) % n);
      offer((rank_ + s) % n, rank_);
    } else {
      want((rank_ + n - 1) % n, (rank_ - s + n) % n);
      offer((rank_ + 1) % n, (rank_ - s + 1 + n) % n);
      call.wait();
    }
  }
  call.wait();
}

void GroupComm::all_gather(std::span<const std::byte> mine, std::span<std::byte> all, CommOffsets offsets,
                           CommLabel label) {
  check_offsets(offsets, size(), all.size(), label);
  const std::span<std::byte> own = piece(all, offsets, rank_);
  check(own.size() == mine.size(), Code::bug, "[comm] ", label.what, ": ", mine.size(),
        " bytes for a place of ", own.size());
  if (own.data() != mine.data() && !mine.empty()) std::memcpy(own.data(), mine.data(), mine.size());
  Call call(*this, CommKind::all_gather, label);
  gather_pieces(call, all, offsets);
}

void GroupComm::all_to_all(std::span<const std::byte> send, CommOffsets send_offsets,
                           std::span<std::byte> recv, CommOffsets recv_offsets, CommLabel label) {
  check_offsets(send_offsets, size(), send.size(), label);
  check_offsets(recv_offsets, size(), recv.size(), label);
  Call call(*this, CommKind::all_to_all, label);
  const int n = size();
  for (int s = 1; s < n; ++s) {
    const int from = (rank_ - s + n) % n, to = (rank_ + s) % n;
    if (!piece(recv, recv_offsets, from).empty()) call.receive(from, piece(recv, recv_offsets, from));
    if (!piece(send, send_offsets, to).empty()) call.send(to, piece(send, send_offsets, to));
  }
  const auto own = piece(send, send_offsets, rank_);
  const auto place = piece(recv, recv_offsets, rank_);
  check(own.size() == place.size(), Code::bug, "[comm] ", label.what, ": ", own.size(),
        " bytes to oneself for a place of ", place.size());
  if (!own.empty()) std::memcpy(place.data(), own.data(), own.size());
  call.wait();
}

// In the ring, piece p starts at rank p + 1, passes every rank and ends, complete, at rank p.
void GroupComm::sum_pieces(Call& call, std::span<std::byte> data, CommOffsets offsets, Combine how) {
  const int n = size();
  for (int s = 1; s < n; ++s) {
    const bool straight = transport_->shared_memory();
    const int sent = straight ? (rank_ + s) % n : (rank_ - s + n) % n;
    const int got = straight ? rank_ : (rank_ - s - 1 + 2 * n) % n;
    const int to = straight ? sent : (rank_ + 1) % n,
              from = straight ? (rank_ - s + n) % n : (rank_ + n - 1) % n;
    if (!piece(data, offsets, got).empty()) call.receive(from, piece(data, offsets, got), how);
    if (!piece(data, offsets, sent).empty()) call.send(to, piece(data, offsets, sent));
    if (!straight) call.wait();
  }
  call.wait();
}

// The first 2 * rest ranks pair up: the odd one of a pair sits out. What is sent is a copy, since the
// data is added to while it may still be under way.
void GroupComm::double_up(Call& call, std::span<std::byte> data, Combine how) {
  const int n = size();
  int power = 1;
  while (power * 2 <= n) power *= 2;
  const int rest = n - power;
  std::vector<std::byte> copy;
  if (rank_ < 2 * rest) {
    if (rank_ % 2 == 1) {
      call.send(rank_ - 1, data);
      call.wait();
      call.receive(rank_ - 1, data);
      return call.wait();
    }
    call.receive(rank_ + 1, data, how);
    call.wait();
  }
  const int v = rank_ < 2 * rest ? rank_ / 2 : rank_ - rest;
  for (int k = 1; k < power; k *= 2) {
    const int peer = (v ^ k) < rest ? 2 * (v ^ k) : (v ^ k) + rest;
    copy.assign(data.begin(), data.end());
    call.receive(peer, data, how);
    call.send(peer, copy);
    call.wait();
  }
  if (rank_ < 2 * rest) {
    call.send(rank_ + 1, data);
    call.wait();
  }
}

template <class T>
void GroupComm::reduce_all(std::span<T> data, CommOp op, CommLabel label) {
  Call call(*this, CommKind::all_reduce, label);
  if (data.empty()) return;
  const Combine how = combine_of<T>(op);
  const std::span<std::byte> bytes = writable_bytes_of(data);
  if (bytes.size() <= kDoubling) return double_up(call, bytes, how);
  const std::vector<int64_t> offsets = even_offsets(static_cast<int64_t>(bytes.size()), size(), 64);
  sum_pieces(call, bytes, offsets, how);
  gather_pieces(call, bytes, offsets);
}

template <class T>
void GroupComm::scatter_sums(std::span<T> data, CommOffsets offsets, CommLabel label) {
  check_offsets(offsets, size(), data.size(), label);
  Call call(*this, CommKind::reduce_scatter, label);
  std::vector<int64_t> borders(offsets.begin(), offsets.end());
  for (int64_t& b : borders) b *= static_cast<int64_t>(sizeof(T));
  sum_pieces(call, writable_bytes_of(data), borders, combine_of<T>(CommOp::sum));
}

void GroupComm::all_reduce(std::span<int64_t> data, CommOp op, CommLabel label) {
  reduce_all(data, op, label);
}
void GroupComm::all_reduce(std::span<int32_t> data, CommOp op, CommLabel label) {
  reduce_all(data, op, label);
}
void GroupComm::reduce_scatter(std::span<int64_t> data, CommOffsets offsets, CommLabel label) {
  scatter_sums(data, offsets, label);
}
void GroupComm::reduce_scatter(std::span<int32_t> data, CommOffsets offsets, CommLabel label) {
  scatter_sums(data, offsets, label);
}

}  // namespace llmctl
