// SPDX-License-Identifier: Apache-2.0
// The messages of one collective call. Peers are ranks of the group.
#pragma once

#include <utility>

#include "parallel/group_comm.h"

namespace llmctl {

class GroupComm::Call {
 public:
  Call(GroupComm& group, CommKind kind, CommLabel label);
  void send(int to, std::span<const std::byte> data);
  void receive(int from, std::span<std::byte> data, Combine how = Combine::copy);
  // Waits for all of them; their buffers may be used again.
  void wait();

 private:
  GroupComm& group_;
  CommKind kind_;
  CommLabel label_;
  uint64_t number_;
  Channel channel_;
  std::vector<std::pair<std::unique_ptr<Transport::Op>, int>> ops_;
};

}  // namespace llmctl
