// SPDX-License-Identifier: Apache-2.0
// Comm over a Transport: the collectives of every engine. Bytes and messages that a rank of n sends:
//   barrier         dissemination: ceil(log2 n) empty messages
//   broadcast       up to 64 KiB a binomial tree; else the root scatters n pieces and a ring gathers them
//   all_gather      ring: all pieces but the right neighbour's, n-1 messages. Up to 64 KiB in all, or in
//                   shared memory: its own piece to every other rank
//   reduce_scatter  all pieces but its own, n-1 messages, as a ring or in shared memory straight to owners
//   all_reduce      up to 16 KiB recursive doubling: log2 n messages of all the data (ranks beyond a power of
//   two hand
//                   theirs in and get the result back); else a reduce_scatter and an all_gather of even
//                   pieces
//   all_to_all      what it has for others, one message per peer
// An empty piece is no message. Choices depend on what every rank knows, so all make the same.
#pragma once

#include <vector>

#include "parallel/transport.h"

namespace llmctl {

class GroupComm final : public Comm {
 public:
  // Ranks of the transport in the order of the group; this rank must be one. timeout in seconds, of one wait.
  GroupComm(std::shared_ptr<Transport> transport, std::vector<int> members, uint32_t context,
            std::string name, double timeout);
  // The group of all ranks.
  static std::unique_ptr<Comm> world(std::shared_ptr<Transport> transport, double timeout);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }
  const std::string& name() const override { return name_; }
  void barrier(CommLabel label) override;
  void broadcast(std::span<std::byte> data, int root, CommLabel label) override;
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all, CommOffsets offsets,
                  CommLabel label) override;
  void all_to_all(std::span<const std::byte> send, CommOffsets send_offsets, std::span<std::byte> recv,
                  CommOffsets recv_offsets, CommLabel label) override;
  void all_reduce(std::span<int64_t> data, CommOp op, CommLabel label) override;
  void all_reduce(std::span<int32_t> data, CommOp op, CommLabel label) override;
  void reduce_scatter(std::span<int64_t> data, CommOffsets offsets, CommLabel label) override;
  void reduce_scatter(std::span<int32_t> data, CommOffsets offsets, CommLabel label) override;
  CommHandle isend(std::span<const std::byte> data, int to, int tag, CommLabel label) override;
  CommHandle irecv(std::span<std::byte> data, int from, int tag, CommLabel label) override;
  std::unique_ptr<Comm> split(int color, int key, const std::string& name) override;
  CommCounts counts() const override { return counts_; }
  void reset_counts() override { counts_ = {}; }
  void abandon(const std::string& reason) noexcept override { transport_->abandon(reason); }

  // One collective call: its channel, and its messages until they are waited for.
  class Call;

 private:
  friend class Call;
  struct Message;
  template <class T>
  void reduce_all(std::span<T> data, CommOp op, CommLabel label);
  template <class T>
  void scatter_sums(std::span<T> data, CommOffsets offsets, CommLabel label);
  void double_up(Call& call, std::span<std::byte> data, Combine how);
  void gather_pieces(Call& call, std::span<std::byte> all, CommOffsets offsets);
  void sum_pieces(Call& call, std::span<std::byte> data, CommOffsets offsets, Combine how);
  void check_peer(int peer, int tag, CommLabel label) const;
  void finish(Transport::Op& op, CommKind kind, std::string_view what, int64_t step, int peer, uint64_t call);
  std::string missing(int waited_for, uint64_t call) const;

  std::shared_ptr<Transport> transport_;
  std::vector<int> members_;
  uint32_t context_;
  std::string name_;
  double timeout_;
  int rank_ = 0;
  uint64_t calls_ = 0;
  CommCounts counts_;
};

}  // namespace llmctl
