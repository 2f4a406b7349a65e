// SPDX-License-Identifier: Apache-2.0
// Who this process is among the ranks of a run, as whoever started it says. In order of precedence, the
// innermost launcher first, since an outer one's variables are inherited:
//   torchrun  RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE (also `llmctl launch`, Kubernetes)
//   openmpi   OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE
//   pmi       PMI_RANK, PMI_SIZE, MPI_LOCALRANKID, MPI_LOCALNRANKS (MPICH, Intel MPI, srun --mpi=pmi2)
//   slurm     SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID, of a step that srun began (a batch
//             script has no SLURM_STEP_NUM_TASKS and is one process, whatever SLURM_NTASKS says)
// PMIX_RANK, where it stands beside them, must agree. MASTER_ADDR and MASTER_PORT say where rank 0
// listens for TCP, in all cases; without them Slurm's node list does, and a port made from the job's id.
//
// Errors: Error{input}, one line, for half a description, a number that is none, and an inner launcher
// whose world cannot be a part of the outer one's (a stale RANK under srun -n 4).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace llmctl {

struct LaunchEnv {
  std::string source = "none";  // none: started by hand, a world of one
  int rank = 0, world = 1;
  int local_rank = 0;              // among those on this host: which GPU
  int local_world = 1;             // 0: unknown
  std::string host;                // this machine's name
  std::vector<std::string> nodes;  // of Slurm's step or job
  std::string job;                 // empty: unknown
  int restarts = 0;                // how often the engine requeued the job
  bool mpi = false;                // an MPI library would find its peers: mpirun, or srun with a PMIx plugin
  std::string master_host, master_fallback;  // empty: unknown
  int master_port = 0;                       // 0: unknown
};

using Environment = std::function<std::optional<std::string>(const char* name)>;
LaunchEnv read_launch_env(const Environment& environment);
LaunchEnv read_launch_env();  // of this process

// Slurm's n[1-3,07],gpu1 as names. Error{input}.
std::vector<std::string> expand_nodes(const std::string& list);
// A port of 20000 to 31999 that all ranks of a job compute alike.
int port_of_job(const std::string& job);

}  // namespace llmctl
