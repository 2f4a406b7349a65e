// SPDX-License-Identifier: Apache-2.0
// Messages over TCP: a connection to every rank, and one thread that reads, writes what a socket did not
// take at once, and sends a sign of life every second. A closed connection is noticed at once, a silent
// one after TcpOptions::silence; either ends every wait of this rank. Large messages are offered first
// and sent when their receive is there, so they are stored nowhere on the way.
#pragma once

#include "parallel/tcp_rendezvous.h"

namespace llmctl {

std::shared_ptr<Transport> tcp_transport(const TcpOptions& options);
// Connections that meet() made.
std::shared_ptr<Transport> tcp_transport(const TcpOptions& options, std::vector<Socket> sockets);

}  // namespace llmctl
