// SPDX-License-Identifier: Apache-2.0
// The few symbols of Open MPI's libmpi.so.40 that the MPI engine calls, declared here and looked up at
// run time (MPI 3.1; handles are pointers to objects of the library). Never linked.
#pragma once

#include <cstddef>
#include <string>

namespace llmctl::mpi {

using Handle = void*;
struct Status {  // as the library lays it out; only the public part is read
  int source, tag, error, cancelled;
  size_t count;
};
constexpr int kAnySource = -1, kSerialized = 2, kTagUb = 0, kErrorText = 256;

struct Library {
  int (*init_thread)(int*, char***, int, int*);
  int (*initialized)(int*);
  int (*finalize)();
  int (*comm_rank)(Handle, int*);
  int (*comm_size)(Handle, int*);
  int (*comm_get_attr)(Handle, int, void*, int*);
  int (*comm_set_errhandler)(Handle, Handle);
  int (*isend)(const void*, int, Handle, int, int, Handle, Handle*);
  int (*irecv)(void*, int, Handle, int, int, Handle, Handle*);
  int (*test)(Handle*, int*, Status*);
  int (*get_count)(const Status*, Handle, int*);
  int (*cancel)(Handle*);
  int (*request_free)(Handle*);
  int (*error_string)(int, char*, int*);
  Handle world, byte, errors_return;
};

// Null, and `why`, where the library is missing or is not Open MPI. Opened once per process, never closed.
const Library* open_library(std::string& why);

}  // namespace llmctl::mpi
