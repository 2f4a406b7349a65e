// SPDX-License-Identifier: Apache-2.0
#include "parallel/mpi_library.h"

#include <dlfcn.h>

#include <optional>

namespace llmctl::mpi {
namespace {

std::optional<Library> load(std::string& why) {
  // Global: the library's own plugins look for its symbols.
  void* so = ::dlopen("libmpi.so.40", RTLD_NOW | RTLD_GLOBAL);
  if (!so) {
    why = ::dlerror();
    return std::nullopt;
  }
  Library l{};
  const auto find = [&](const char* name, auto& into) {
    void* symbol = ::dlsym(so, name);
    if (!symbol && why.empty()) why = std::string("libmpi.so.40 has no ") + name + ": it is not Open MPI";
    into = reinterpret_cast<std::remove_reference_t<decltype(into)>>(symbol);
  };
  find("MPI_Init_thread", l.init_thread);
  find("MPI_Initialized", l.initialized);
  find("MPI_Finalize", l.finalize);
  find("MPI_Comm_rank", l.comm_rank);
  find("MPI_Comm_size", l.comm_size);
  find("MPI_Comm_get_attr", l.comm_get_attr);
  find("MPI_Comm_set_errhandler", l.comm_set_errhandler);
  find("MPI_Isend", l.isend);
  find("MPI_Irecv", l.irecv);
  find("MPI_Test", l.test);
  find("MPI_Get_count", l.get_count);
  find("MPI_Cancel", l.cancel);
  find("MPI_Request_free", l.request_free);
  find("MPI_Error_string", l.error_string);
  find("ompi_mpi_comm_world", l.world);
  find("ompi_mpi_byte", l.byte);
  find("ompi_mpi_errors_return", l.errors_return);
  return why.empty() ? std::optional(l) : std::nullopt;
}

}  // namespace

const Library* open_library(std::string& why) {
  static std::string reason;
  static const std::optional<Library> library = load(reason);
  why = reason;
  return library ? &*library : nullptr;
}

}  // namespace llmctl::mpi
