// SPDX-License-Identifier: Apache-2.0
// What a communication engine must offer: messages between pairs of ranks, matched by channel. The
// collectives are built on it once, for every engine (group_comm.h).
//
// Threads: any thread of the rank may call any function.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/base/comm.h"

namespace llmctl {

using CommClock = std::chrono::steady_clock;

// How an arriving message enters its buffer: over it, or element by element into what is there.
enum class Combine : uint8_t { copy, sum64, max64, min64, sum32, max32, min32 };
// Adds `from` into `into` (or the larger, the smaller), of equal sizes.
void combine(Combine how, std::span<std::byte> into, std::span<const std::byte> from);

// Which message is meant, between two ranks: a group's context, and the running number of a
// collective call or the tag of a message. 31 bits, the tags MPI offers. Messages of one channel keep
// their order.
struct Channel {
  uint32_t bits = 0;
  CommKind kind = CommKind::point;  // of the call: two ranks in different calls are told apart by it
  static constexpr uint32_t kContexts = 1 << 11, kNumbers = 1 << 19;
  static Channel collective(uint32_t context, uint64_t call, CommKind kind) {
    return {context << 20 | 1u << 19 | static_cast<uint32_t>(call % kNumbers), kind};
  }
  static Channel message(uint32_t context, int tag) {
    return {context << 20 | static_cast<uint32_t>(tag), CommKind::point};
  }
};

class Transport {
 public:
  // One message under way. Destroying a receive that is not done cancels it: its buffer is not touched
  // afterwards. Destroying a send that is not done drops it if the peer has not begun to take it.
  struct Op {
    virtual ~Op() = default;
  };
  enum class Outcome : uint8_t { done, pending, failed };

  virtual ~Transport() = default;
  virtual const char* engine() const = 0;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Ranks read each other's memory: no algorithm needs to spare links.
  virtual bool shared_memory() const = 0;

  virtual std::unique_ptr<Op> send(int to, Channel channel, std::span<const std::byte> data) = 0;
  virtual std::unique_ptr<Op> receive(int from, Channel channel, std::span<std::byte> data, Combine how) = 0;
  // Blocks until the op is done, has failed (`why` says it) or the deadline passes. A deadline in the
  // past only looks.
  virtual Outcome wait(Op& op, CommClock::time_point deadline, std::string& why) = 0;

  // For messages about time-outs: the last collective this rank began in a group, and what is known of
  // a peer's.
  virtual void note_call(uint32_t context, uint64_t call) = 0;
  virtual std::optional<uint64_t> call_of(int peer, uint32_t context) const = 0;

  virtual void abandon(const std::string& reason) noexcept = 0;

  // The first context number this rank has not used; split() agrees on the largest.
  uint32_t next_context = 1;
};

}  // namespace llmctl
