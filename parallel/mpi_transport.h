// SPDX-License-Identifier: Apache-2.0
// Messages over MPI: Open MPI 4 or 5 (libmpi.so.40), opened at run time; other libraries have other
// handles and are not tried. Calls are made under one lock, so MPI_THREAD_SERIALIZED is enough; waiting
// polls MPI_Test, spins briefly and then sleeps, so that ranks may share cores. A peer that dies is the
// launcher's to notice (mpirun and srun end the others); a silent one ends in a time-out.
#pragma once

#include <memory>

#include "parallel/transport.h"

namespace llmctl {

// Whether libmpi opens here and is Open MPI; nothing is initialised.
bool mpi_available();
// Initialises MPI; once per process. MPI is finalised with the transport, unless a rank gave up: then
// the launcher must end the others. Error{unsupported} when it does not open, Error{device}.
std::shared_ptr<Transport> mpi_transport();

}  // namespace llmctl
