// SPDX-License-Identifier: Apache-2.0
// One connection of the TCP engine, as bytes: frames out through a queue, frames in through a state.
// A frame is a header and header.bytes of payload, except that an offer's bytes announce a later frame.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <mutex>
#include <vector>

#include "parallel/mailbox.h"
#include "parallel/tcp_socket.h"

namespace llmctl {

constexpr size_t kTcpSmall = 64 << 10;  // messages up to this size travel unasked
constexpr size_t kTcpReason = 4096;     // of the text of who gives up
constexpr size_t kTcpBoard = 64;        // groups whose calls a heartbeat tells

enum class FrameType : uint32_t { small = 1, offer, take, data, beat, abandon, bye };
struct FrameHeader {
  FrameType type = FrameType::beat;
  uint32_t kind = 0;  // CommKind
  uint32_t channel = 0;
  uint32_t reserved = 0;
  uint64_t bytes = 0;
  uint64_t id = 0;       // offer: of the send; take: of the send; data: of the receive
  uint64_t receive = 0;  // take: of the receive
};

// A large message that its sender holds until the peer asks for it.
struct TcpOutgoing {
  std::span<const std::byte> data;
  uint64_t id = 0;
  std::atomic<bool> finished{false};
};

struct TcpLink {
  enum class Life : uint8_t { alive, leaving, dead };  // leaving: it said bye
  Socket socket;
  std::string host;
  std::atomic<Life> life{Life::alive};
  std::array<std::atomic<uint64_t>, kTcpBoard> calls{};

  struct Frame {
    FrameHeader header;
    std::vector<std::byte> own;           // the payload, or
    std::shared_ptr<TcpOutgoing> source;  // where it is
    size_t written = 0;                   // of header and payload
  };
  std::mutex mutex;  // of what is on its way out
  std::deque<Frame> out;
  bool watched = false;  // the I/O thread waits until the socket takes more
  bool shut = false;     // no more is sent

  // Of the I/O thread, under the engine's I/O mutex.
  FrameHeader header;
  size_t have = 0;  // of header and payload
  std::vector<std::byte> scratch;
  std::shared_ptr<Mailbox::Receive> target;  // of a data frame; none: thrown away
  CommClock::time_point heard;

  // Bytes that follow the header.
  size_t payload() const;
  // Whether the header, now complete, can be of a rank of ours; makes room for what it announces.
  bool admit();
  // Where the next bytes belong. Data that is added, or that nobody wants any more, passes through scratch.
  std::span<std::byte> place();
  // Data came: a full chunk of scratch, or the last one, is added into its place.
  void absorb();

  // Sends what the socket takes, up to a burst; under `mutex`. False when the connection is broken.
  bool flush(std::string& why);
};

}  // namespace llmctl
