// SPDX-License-Identifier: Apache-2.0
// Writing a file of packed weights. It stays KEY.partial, locked, until it is whole; a lock that nobody holds is a write that died.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "core/models/panel_file.h"

namespace llmctl {

using namespace panel_file;

namespace {

constexpr int64_t kHandOver = 4 * kAlign;

// Grows, without touching what it will hold. Starts on a line of the cache, as packing likes it.
struct Buffer {
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data;
  int64_t size = 0, filled = 0;
  void reserve(int64_t bytes) {
    if (bytes <= size) return;
    bytes = padded(bytes);
    std::unique_ptr<std::byte, Free> larger(
        static_cast<std::byte*>(std::aligned_alloc(static_cast<size_t>(kAlign), static_cast<size_t>(bytes))));
    if (!larger) throw std::bad_alloc();
    if (filled > 0) std::memcpy(larger.get(), data.get(), static_cast<size_t>(filled));
    data = std::move(larger);
    size = bytes;
  }
};

bool same_file(int fd, const fs::path& path) {
  struct stat a {}, b {};
  return ::fstat(fd, &a) == 0 && ::stat(path.c_str(), &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

}  // namespace

struct PanelCache::Writer::State {
  State(const fs::path& folder, Digest k, int64_t n, const kn::Exec& e)
      : exec(e), path(folder / (k.hex() + ".partial")), final_path(folder / (k.hex() + ".panels")), key(k), bytes(n),
        file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) {}
  ~State() {
    if (mine) ::unlink(path.c_str());
  }
  [[noreturn]] void fail(const char* what) const {
    throw Error(Code::io, "[cache] " + path.string() + ": cannot " + what + ": " + std::strerror(errno));
  }
  void hand_over(int64_t size);
  void wait();
  void loop();

  const kn::Exec& exec;
  fs::path path, final_path;
  Digest key;
  int64_t bytes;
  Fd file;
  bool mine = false;  // locked, to be removed unless committed
  PanelMap map;
  Buffer buffer, spare;
  int64_t begin = 0;   // of the buffer, in the weights
  int64_t staged = 0;  // size of the piece that is being filled
  std::vector<Digest> table;

  std::mutex mutex;
  std::condition_variable changed;
  std::thread thread;
  // What the thread is to write from the spare buffer; 0 when it has nothing to do.
  int64_t to_write = 0, write_at = 0;
  int error = 0;
  bool stop = false;
};

PanelCache::Writer::Writer(const fs::path& folder, Digest key, int64_t bytes, const kn::Exec& exec)
    : state_(std::make_unique<State>(folder, key, bytes, exec)) {
  State& s = *state_;
  if (s.file.fd < 0) s.fail("write");
  const bool locked = ::flock(s.file.fd, LOCK_EX | LOCK_NB) == 0;
  check(locked || errno != EWOULDBLOCK, Code::io, "[cache] ", s.path.string(), ": another process is writing it");
  if (!locked) s.fail("lock");
  // Between open and lock another writer may have finished: then this is its file, by its new name.
  check(same_file(s.file.fd, s.path), Code::io, "[cache] ", s.path.string(), ": another process has just written it");
  s.mine = true;
  const auto size = static_cast<off_t>(file_bytes(bytes));
  if (::ftruncate(s.file.fd, 0) != 0 || ::ftruncate(s.file.fd, size) != 0) s.fail("write");
  // The disk's room now, not half-way; a file system that cannot promise it is written to as it is.
  if (::fallocate(s.file.fd, 0, 0, size) != 0 && errno != EOPNOTSUPP) s.fail("write");
  s.map = map_panels(s.file.fd, bytes, s.path);
  s.thread = std::thread([&s] { s.loop(); });
}

PanelCache::Writer::~Writer() {
  State& s = *state_;
  {
    const std::lock_guard lock(s.mutex);
    s.stop = true;
  }
  s.changed.notify_all();
  if (s.thread.joinable()) s.thread.join();
}

const PanelMap& PanelCache::Writer::map() const { return state_->map; }

void PanelCache::Writer::State::loop() {
  std::unique_lock lock(mutex);
  while (true) {
    changed.wait(lock, [&] { return stop || to_write > 0; });
    if (to_write == 0) return;
    const int64_t n = to_write, at = write_at;
    lock.unlock();
    int failed = 0;
    for (int64_t i = 0; i < n && failed == 0; i += kAlign)
      if (!panel_file::write_at(file.fd, spare.data.get() + i, kAlign, kAlign + at + i)) failed = errno ? errno : EIO;
    lock.lock();
    if (failed) error = failed;
    to_write = 0;
    changed.notify_all();
  }
}

void PanelCache::Writer::State::wait() {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return to_write == 0; });
  errno = error;
  if (error) fail("write");
}

// The first `size` bytes of the buffer, whole chunks, go to the thread; the rest begins the next one.
void PanelCache::Writer::State::hand_over(int64_t size) {
  const std::vector<Digest> digests = chunk_digests(buffer.data.get(), static_cast<uint64_t>(size), exec);
  table.insert(table.end(), digests.begin(), digests.end());
  wait();
  const int64_t rest = buffer.filled - size;
  std::swap(buffer, spare);
  buffer.filled = 0;
  buffer.reserve(std::max(spare.size, rest));
  if (rest > 0) std::memcpy(buffer.data.get(), spare.data.get() + size, static_cast<size_t>(rest));
  buffer.filled = rest;
  {
    const std::lock_guard lock(mutex);
    to_write = size;
    write_at = begin;
  }
  changed.notify_all();
  begin += size;
}

std::byte* PanelCache::Writer::stage(const std::byte* place, int64_t bytes) {
  State& s = *state_;
  const int64_t gap = place - s.map.data.get() - (s.begin + s.buffer.filled);
  check(gap >= 0 && s.begin + s.buffer.filled + gap + bytes <= s.bytes, Code::bug,
        "[cache] a piece comes out of order: gap ", gap, ", ", bytes, " bytes");
  s.buffer.reserve(std::max(s.buffer.filled + gap + bytes, kHandOver));
  std::memset(s.buffer.data.get() + s.buffer.filled, 0, static_cast<size_t>(gap));
  s.buffer.filled += gap;
  s.staged = bytes;
  return s.buffer.data.get() + s.buffer.filled;
}

void PanelCache::Writer::done() {
  State& s = *state_;
  s.buffer.filled += std::exchange(s.staged, 0);
  if (s.buffer.filled >= kHandOver) s.hand_over(s.buffer.filled / kAlign * kAlign);
}

void PanelCache::Writer::commit() {
  State& s = *state_;
  const int64_t left = padded(s.bytes) - s.begin;
  s.buffer.reserve(left);
  std::memset(s.buffer.data.get() + s.buffer.filled, 0, static_cast<size_t>(left - s.buffer.filled));
  s.buffer.filled = left;
  if (left > 0) s.hand_over(left);
  s.wait();
  Header header;
  header.bytes = static_cast<uint64_t>(s.bytes);
  header.key = s.key;
  header.table = digest_of(s.table.data(), s.table.size() * sizeof(Digest));
  header.self = header.computed();
  if (!panel_file::write_at(s.file.fd, s.table.data(), static_cast<int64_t>(s.table.size() * sizeof(Digest)), kTableAt) ||
      !panel_file::write_at(s.file.fd, &header, sizeof header, 0))
    s.fail("write");
  write_stamp(s.file.fd);
  if (::rename(s.path.c_str(), s.final_path.c_str()) != 0) s.fail("rename");
  s.mine = false;
}

}  // namespace llmctl
