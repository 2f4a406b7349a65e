// SPDX-License-Identifier: Apache-2.0
#include "core/models/panel_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

namespace llmctl::panel_file {
namespace {

constexpr int64_t kStampAt = 512;
struct Stamp {
  char boot[48] = {};  // the kernel's boot id, zeros where there is none
  int64_t seconds = 0, nanoseconds = 0;
};
static_assert(sizeof(Header) <= kStampAt && kStampAt + sizeof(Stamp) <= kTableAt);

bool boot_id(Stamp& stamp) {
  const Fd file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  return file.fd >= 0 && ::read(file.fd, stamp.boot, sizeof stamp.boot - 1) > 0;
}

}  // namespace

Fd::~Fd() {
  if (fd >= 0) ::close(fd);
}

bool write_at(int fd, const void* data, int64_t bytes, int64_t at) {
  const auto* p = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    const ssize_t n = ::pwrite(fd, p, static_cast<size_t>(bytes), at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    p += n, at += n, bytes -= n;
  }
  return true;
}

bool read_at(int fd, void* data, int64_t bytes, int64_t at) {
  auto* p = static_cast<std::byte*>(data);
  while (bytes > 0) {
    const ssize_t n = ::pread(fd, p, static_cast<size_t>(bytes), at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    p += n, at += n, bytes -= n;
  }
  return true;
}

PanelMap map_panels(int fd, int64_t bytes, const fs::path& path) {
  // Room first, then the file at an aligned place in it.
  const auto size = static_cast<size_t>(padded(bytes)), room = size + kAlign;
  void* reserved = ::mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  check(reserved != MAP_FAILED, Code::io, "[cache] ", path.string(), ": cannot map: ", std::strerror(errno));
  const std::shared_ptr<void> hold(reserved, [room](void* p) { ::munmap(p, room); });
  const auto at = (reinterpret_cast<uintptr_t>(reserved) + kAlign - 1) / kAlign * kAlign;
  void* p = ::mmap(reinterpret_cast<void*>(at), size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, kAlign);
  check(p != MAP_FAILED, Code::io, "[cache] ", path.string(), ": cannot map: ", std::strerror(errno));
  ::madvise(p, size, MADV_HUGEPAGE);  // read from the disk, too, in pages as large as may be: a hint
  return {std::shared_ptr<std::byte>(hold, static_cast<std::byte*>(p)), static_cast<int64_t>(size)};
}

void write_stamp(int fd) {
  Stamp stamp;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  // An even second: a time that every file system can hold, and that a later write does not have.
  stamp.seconds = now.tv_sec / 2 * 2;
  if (!boot_id(stamp) || !write_at(fd, &stamp, sizeof stamp, kStampAt)) return;
  const timespec times[2] = {now, {stamp.seconds, 0}};
  (void)::futimens(fd, times);  // without it the stamp does not hold, and the file is compared again
}

bool has_stamp(int fd) {
  Stamp stamp, wanted;
  struct stat s {};
  if (!boot_id(wanted) || !read_at(fd, &stamp, sizeof stamp, kStampAt) || ::fstat(fd, &s) != 0) return false;
  wanted.seconds = s.st_mtim.tv_sec, wanted.nanoseconds = s.st_mtim.tv_nsec;
  return std::memcmp(&stamp, &wanted, sizeof stamp) == 0;
}

void mark_used(int fd) {
  timespec times[2] = {};
  ::clock_gettime(CLOCK_REALTIME, &times[0]);
  times[1].tv_nsec = UTIME_OMIT;
  (void)::futimens(fd, times);
}

}  // namespace llmctl::panel_file
