// SPDX-License-Identifier: Apache-2.0
// How the ranks of a world find each other over TCP. Rank 0 listens at a known address; every other rank
// tells it where it listens itself, learns where all listen, and ends with a connection to each.
//
// Who does not know the token is refused and forgotten. The token keeps strangers and other runs out; it
// travels in the clear, so it does not stop who can listen to the network.
#pragma once

#include <vector>

#include "parallel/tcp_socket.h"

namespace llmctl {

struct TcpOptions {
  Endpoint master;
  int rank = 0, size = 1;
  std::string token;            // up to 64 bytes, the same on every rank
  double connect_timeout = 60;  // seconds until all ranks must have met
  double silence = 10;          // seconds without a sign of life after which a peer counts as dead
};

// A connection to each rank, in their order; its own is empty. Errors: Error{device}, the same text on
// all ranks that met, naming those missing; Error{input} when two ranks contradict each other.
std::vector<Socket> meet(const TcpOptions& options);
// The same where rank 0 has its listener already (launch picks a port before it starts the others).
std::vector<Socket> meet(const TcpOptions& options, Socket listener);

}  // namespace llmctl
