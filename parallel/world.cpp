// SPDX-License-Identifier: Apache-2.0
#include "parallel/world.h"

#include <cstdlib>

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

std::shared_ptr<Transport> open_transport(const LaunchEnv& env, const WorldOptions& o,
                                          const std::string& engine) {
  if (engine == "tcp") return tcp_transport(tcp_options(env, o));
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
