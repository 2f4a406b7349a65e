// SPDX-License-Identifier: Apache-2.0
#include "parallel/world.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "parallel/group_comm.h"
#include "parallel/mpi_transport.h"
#include "parallel/tcp_transport.h"
#include "parallel/thread_world.h"

namespace llmctl {
namespace {

TcpOptions tcp_options(const LaunchEnv& env, const WorldOptions& o) {
  check(!env.master_host.empty() && env.master_port > 0, Code::usage, "[comm] rank ", env.rank, " of ",
        env.world, " does not know where rank 0 is; set MASTER_ADDR and MASTER_PORT",
        env.mpi ? ", or use --comm mpi" : "");
  TcpOptions t{
      {env.master_host, env.master_port}, env.rank, env.world, o.token, o.connect_timeout, o.silence};
  if (!env.master_fallback.empty() && !resolves(t.master.host)) t.master.host = env.master_fallback;
  const char* token = std::getenv("LLMCTL_COMM_TOKEN");
  if (t.token.empty()) t.token = token && *token ? token : "job " + env.job.substr(0, 56);
  return t;
}

// The socket at MASTER_PORT that a supervisor (parallel/supervisor.h) opened for rank 0, or -1.
int inherited_listener(int rank) {
  const char* text = std::getenv("LLMCTL_COMM_LISTENER");
  if (rank != 0 || !text) return -1;
  int fd = -1, listens = 0;
  socklen_t size = sizeof listens;
  const auto [end, ec] = std::from_chars(text, text + std::strlen(text), fd);
  check(ec == std::errc() && *end == 0 && ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens,
        Code::input, "[comm] LLMCTL_COMM_LISTENER=", text, ": not a listening socket of this process; unset it");
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return fd;
}

std::shared_ptr<Transport> open_transport(const LaunchEnv& env, const WorldOptions& o,
                                          const std::string& engine) {
  if (engine == "tcp") {
    const TcpOptions t = tcp_options(env, o);
    const int listener = inherited_listener(t.rank);
    return listener >= 0 ? tcp_transport(t, meet(t, Socket(listener))) : tcp_transport(t);
  }
  std::shared_ptr<Transport> mpi = mpi_transport();
  check(env.source == "none" || mpi->size() == env.world, Code::input, "[comm] MPI says the world has ",
        mpi->size(), " ranks, ", env.source, "'s variables say ", env.world,
        "; is the launcher that of the library?");
  return mpi;
}

}  // namespace

std::string engine_for(const LaunchEnv& env, const WorldOptions& o) {
  if (o.engine != "auto") return o.engine;
  if (env.world == 1) return o.ranks > 1 ? "threads" : "none";
  return env.mpi && mpi_available() ? "mpi" : "tcp";
}

void run_world(const LaunchEnv& env, const WorldOptions& o, const std::function<void(Comm&)>& rank_main) {
  const std::string engine = engine_for(env, o);
  const bool known = engine == "none" || engine == "threads" || engine == "tcp" || engine == "mpi";
  check(known, Code::usage, "[comm] no engine ", engine, "; there are auto, threads, tcp, mpi");
  check(engine != "threads" || env.world == 1, Code::usage,
        "[comm] threads are ranks of one process, and this is rank ", env.rank, " of ", env.world,
        "; use --comm auto");
  if (engine == "threads") return run_threads(o.ranks, o.timeout, rank_main);
  if (engine == "none" || (engine == "tcp" && env.world == 1)) return rank_main(*solo_comm());
  const std::shared_ptr<Transport> transport = open_transport(env, o, engine);
  if (transport->size() == 1) return rank_main(*solo_comm());
  try {
    rank_main(*GroupComm::world(transport, o.timeout));
  } catch (const std::exception& e) {
    transport->abandon(e.what());
    throw;
  }
}

}  // namespace llmctl
