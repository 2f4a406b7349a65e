// SPDX-License-Identifier: Apache-2.0
#include "core/base/scratch.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace llmctl {

namespace {

// O_TMPFILE is not everywhere (overlay file systems of old kernels); a name removed at once is.
int unnamed_file(const fs::path& folder) {
  std::string name = (folder / "scratch-XXXXXX").string();
  const int file = ::mkostemp(name.data(), O_CLOEXEC);
  check(file >= 0, Code::io, "[scratch] ", folder.string(), ": ", std::strerror(errno));
  ::unlink(name.c_str());
  return file;
}

}  // namespace

ScratchBytes::ScratchBytes(const fs::path& folder) {
  if (!folder.empty()) file_ = unnamed_file(folder);
}

ScratchBytes::~ScratchBytes() {
  if (data_) ::munmap(data_, bytes_);
  if (file_ >= 0) ::close(file_);
}

void ScratchBytes::resize(size_t bytes) {
  if (bytes == bytes_) return;
  // A disk that is full must be an error here, not a signal at the first touch.
  const int full = file_ >= 0 && bytes > bytes_ ? ::posix_fallocate(file_, 0, static_cast<off_t>(bytes)) : 0;
  check(full == 0, Code::io, "[scratch] ", bytes, " bytes of temporary file: ", std::strerror(full));
  if (bytes == 0) {
    ::munmap(data_, bytes_);
    data_ = nullptr;
    bytes_ = 0;
    return;
  }
  const int flags = file_ >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* at = data_ ? ::mremap(data_, bytes_, bytes, MREMAP_MAYMOVE)
                   : ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, file_, 0);
  check(at != MAP_FAILED, Code::memory, "[scratch] ", bytes, " bytes: ", std::strerror(errno));
  if (file_ < 0) ::madvise(at, bytes, MADV_HUGEPAGE);  // a wish: random reads of big tables
  data_ = static_cast<std::byte*>(at);
  bytes_ = bytes;
}

}  // namespace llmctl
