// SPDX-License-Identifier: Apache-2.0
// A group of ranks that exchange bytes. Declared here, implemented in parallel/ (threads, TCP, MPI,
// NCCL); solo_comm() is the group of one, whose calls cost a copy at most.
//
// Floating point only moves; what is summed here is integers, so no algorithm, order or engine can
// change a bit (NUMERICS rules 14 and 17). Every rank of a group makes the same collective calls with
// the same sizes in the same order. Point-to-point messages match by (peer, tag), in order of posting.
// One rank may use several groups from several threads at once (see CommQueue); one group is used by
// one thread at a time, and groups are made (split) by one thread at a time.
//
// Errors: Error{device} (exit 6), one line that names the rank, the call, its label, its step and the
// peers that are missing: when a peer dies, leaves or calls something else, and when a wait passes the
// engine's time-out. After one the group is of no more use: let the error travel, or call abandon().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/error.h"

namespace llmctl {

// What a call is for: a tensor or a purpose, and the training step (-1: none). The text must live
// until the call returns; handles keep a copy.
struct CommLabel {
  CommLabel(const char* w, int64_t s = -1) : what(w), step(s) {}
  CommLabel(const std::string& w, int64_t s = -1) : what(w), step(s) {}
  CommLabel(std::string_view w, int64_t s = -1) : what(w), step(s) {}
  std::string_view what;
  int64_t step;
};

enum class CommKind : uint8_t {
  barrier,
  broadcast,
  all_gather,
  all_reduce,
  reduce_scatter,
  all_to_all,
  point
};
constexpr int kCommKinds = 7;
const char* name_of(CommKind kind);

// What this rank handed to the transport, payload only: an empty message (a barrier's) has 0 bytes.
struct CommCount {
  int64_t calls = 0, messages = 0, bytes = 0;
  bool operator==(const CommCount&) const = default;
};
struct CommCounts {
  std::array<CommCount, kCommKinds> kinds{};
  const CommCount& operator[](CommKind k) const { return kinds[static_cast<size_t>(k)]; }
  CommCount& operator[](CommKind k) { return kinds[static_cast<size_t>(k)]; }
  CommCount total() const;
};

enum class CommOp : uint8_t { sum, max, min };  // sums wrap mod 2^64 (2^32)

// A message under way. Its buffer must live, untouched, until wait() returned or the handle is gone, and
// its group longer than the handle.
// Giving up a handle that is not done cancels the receive; a send is waited for or, after an error, dropped.
class CommHandle {
 public:
  struct Pending {
    virtual ~Pending() = default;
    virtual bool done() = 0;  // never blocks; makes progress
    virtual void wait() = 0;
  };
  CommHandle() = default;
  explicit CommHandle(std::unique_ptr<Pending> pending) : pending_(std::move(pending)) {}
  bool done() { return !pending_ || pending_->done(); }
  void wait() {  // a second wait does nothing
    if (const auto pending = std::move(pending_)) pending->wait();
  }

 private:
  std::unique_ptr<Pending> pending_;
};

// n+1 borders of n pieces: piece r is [offsets[r], offsets[r + 1]). Pieces may be empty.
using CommOffsets = std::span<const int64_t>;
// Cuts `items` into `ranks` pieces whose borders are multiples of `grain`, as even as it goes, larger first.
std::vector<int64_t> even_offsets(int64_t items, int ranks, int64_t grain = 1);
// Borders of items of so many bytes, in bytes.
std::vector<int64_t> in_bytes(std::vector<int64_t> offsets, int64_t item_bytes);

class Comm {
 public:
  virtual ~Comm() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const std::string& name() const = 0;  // "world", "dp", ...: in messages only

  virtual void barrier(CommLabel label) = 0;
  virtual void broadcast(std::span<std::byte> data, int root, CommLabel label) = 0;
  // Piece r of `all` becomes rank r's `mine`; offsets in bytes. `mine` may be that piece itself, in place.
  virtual void all_gather(std::span<const std::byte> mine, std::span<std::byte> all, CommOffsets offsets,
                          CommLabel label) = 0;
  // Piece r of `send` goes to rank r, piece r of `recv` comes from rank r; offsets in bytes. No overlap.
  virtual void all_to_all(std::span<const std::byte> send, CommOffsets send_offsets,
                          std::span<std::byte> recv, CommOffsets recv_offsets, CommLabel label) = 0;
  virtual void all_reduce(std::span<int64_t> data, CommOp op, CommLabel label) = 0;
  virtual void all_reduce(std::span<int32_t> data, CommOp op, CommLabel label) = 0;
  // Sums `data` over the ranks; piece rank() of it (offsets in elements) holds its sum afterwards, in
  // place; the other pieces are scratch.
  virtual void reduce_scatter(std::span<int64_t> data, CommOffsets offsets, CommLabel label) = 0;
  virtual void reduce_scatter(std::span<int32_t> data, CommOffsets offsets, CommLabel label) = 0;

  // Tags 0 to kMaxTag. A send may finish only once the peer receives: in an exchange post both, then wait.
  static constexpr int kMaxTag = (1 << 19) - 1;
  [[nodiscard]] virtual CommHandle isend(std::span<const std::byte> data, int to, int tag,
                                         CommLabel label) = 0;
  [[nodiscard]] virtual CommHandle irecv(std::span<std::byte> data, int from, int tag, CommLabel label) = 0;
  void send(std::span<const std::byte> data, int to, int tag, CommLabel l) { isend(data, to, tag, l).wait(); }
  void recv(std::span<std::byte> data, int from, int tag, CommLabel l) { irecv(data, from, tag, l).wait(); }

  // Collective: the ranks of one color (0 and up) form a group, ranked by (key, rank). Null for color < 0.
  // The group must not outlive the engine's world.
  virtual std::unique_ptr<Comm> split(int color, int key, const std::string& name) = 0;

  // Of this group since it was made or reset; what its split() groups send counts there.
  virtual CommCounts counts() const = 0;
  virtual void reset_counts() = 0;

  // This rank gives up: every other rank's present and next call in any group of this world throws
  // "rank R gave up: reason". Does not throw; not collective.
  virtual void abandon(const std::string& reason) noexcept = 0;
};

// The group of one rank.
std::unique_ptr<Comm> solo_comm(const std::string& name = "world");

template <class T>
std::span<const std::byte> bytes_of(std::span<T> s) {
  return std::as_bytes(s);
}
template <class T>
std::span<std::byte> writable_bytes_of(std::span<T> s) {
  return std::as_writable_bytes(s);
}

// Small texts of any length, one per rank, on every rank. At most 1 MiB each.
std::vector<std::string> all_gather_text(Comm& comm, std::string_view mine, CommLabel label);
// Every rank must hold the same value (a digest of the config, a build id): if not, every rank throws
// the same Error{input}, "[comm] WHAT differs between ranks: 0-2 have X, 3 has Y". Long values are cut.
void require_same(Comm& comm, const std::string& what, std::string_view value);
// Collective: if any rank brings an error, every rank throws that of the lowest such rank, its code
// kept, its text headed by "rank R: ".
void fail_together(Comm& comm, const std::optional<Error>& mine, CommLabel label);
// Collective: throws what every rank has found alike, once none waits any more for the messages that tell it.
[[noreturn]] void refuse_together(Comm& comm, const Error& error);
// Runs what may fail on some ranks only (read a checkpoint, write one), then fail_together. `work` must
// make no collective calls.
void together(Comm& comm, CommLabel label, const std::function<void()>& work);
// Sums, largest and smallest of one number.
int64_t all_reduce_one(Comm& comm, int64_t value, CommOp op, CommLabel label);

}  // namespace llmctl
