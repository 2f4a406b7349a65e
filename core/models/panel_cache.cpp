// SPDX-License-Identifier: Apache-2.0
#include "core/models/panel_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>

#include "core/base/memory.h"
#include "core/io/tensor_store.h"
#include "core/models/panel_file.h"
#include "core/tensor/arena.h"

namespace llmctl {

using namespace panel_file;

namespace {

constexpr size_t kModels = 4;

const char* variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// Brings the mapping into this process's page table, on all threads: with huge pages a millisecond.
void populate(const PanelMap& map, const kn::Exec& exec) {
  constexpr int64_t kPiece = 16 * kAlign;
  kn::parallel_for(exec, (map.bytes + kPiece - 1) / kPiece, [&](int64_t i) {
    const int64_t begin = i * kPiece, bytes = std::min(kPiece, map.bytes - begin);
    want_pages(View(map.data.get() + begin, DType::u8, {bytes}));
  });
}

struct Entry {
  fs::path path;
  timespec used{};
  int64_t bytes = 0;  // on the disk
};

// KEY.panels files, last used first. On the way go writes that died and digests of a month ago.
std::vector<Entry> entries_of(const fs::path& folder) {
  std::vector<Entry> entries;
  std::error_code ec;
  for (fs::directory_iterator it(folder, ec), end; !ec && it != end; it.increment(ec)) {
    const fs::path& path = it->path();
    const std::string stem = path.stem().string();
    if (stem.size() != 32 || stem.find_first_not_of("0123456789abcdef") != std::string::npos) continue;  // not ours
    struct stat s {};
    if (::lstat(path.c_str(), &s) != 0 || !S_ISREG(s.st_mode)) continue;
    if (path.extension() == ".partial") {
      const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
      if (file.fd >= 0 && ::flock(file.fd, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
    }
    constexpr time_t kMonth = 30 * 86400;
    if (path.extension() == ".digest" && ::time(nullptr) - s.st_mtim.tv_sec > kMonth) ::unlink(path.c_str());
    if (path.extension() != ".panels") continue;
    entries.push_back({path, s.st_atim, s.st_blocks * 512});
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.used.tv_sec, a.used.tv_nsec, a.path) > std::tie(b.used.tv_sec, b.used.tv_nsec, b.path);
  });
  return entries;
}

}  // namespace

fs::path default_cache_folder() {
  const std::string cache = variable("XDG_CACHE_HOME"), home = variable("HOME");
  if (cache.starts_with('/')) return fs::path(cache) / "llmctl";  // the standard: else ignore it
  return home.starts_with('/') ? fs::path(home) / ".cache" / "llmctl" : fs::path();
}

Digest model_file_digest(const fs::path& file, const PanelCacheOptions& options, const kn::Exec& exec) {
  const fs::path folder = options.folder.empty() ? default_cache_folder() : options.folder;
  std::error_code ec;
  const bool worth = options.use && static_cast<int64_t>(fs::file_size(file, ec)) >= options.min_bytes;
  return worth && fs::is_directory(folder, ec) ? remembered_digest(file, folder, exec) : content_digest(file, exec);
}

PanelCache::PanelCache(const PanelCacheOptions& options, Digest key, int64_t bytes, const kn::Exec& exec)
    : options_(options), key_(key), bytes_(bytes), exec_(exec) {}

void PanelCache::say(const std::string& text) const {
  if (options_.log) options_.log->line(text);
}

// A few chunks always; all of them when the file comes from another boot or was written to.
bool PanelCache::whole(int fd, const std::byte* data, const std::vector<Digest>& table) const {
  const auto n = static_cast<int64_t>(table.size());
  if (has_stamp(fd)) {
    constexpr int64_t kSamples = 4;
    for (int64_t i = 0; i < kSamples; ++i) {
      const int64_t chunk = i * (n - 1) / (kSamples - 1);
      if (digest_of(data + chunk * kAlign, kAlign) != table[static_cast<size_t>(chunk)]) return false;
    }
    return true;
  }
  if (chunk_digests(data, static_cast<uint64_t>(n * kAlign), exec_) != table) return false;
  write_stamp(fd);
  return true;
}

std::optional<PanelMap> PanelCache::find() {
  const fs::path path = options_.folder / (key_.hex() + ".panels");
  int opened = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (opened < 0) opened = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (opened < 0) return std::nullopt;
  const Fd file(opened);
  const auto damaged = [&](const char* what) {
    say("[cache] " + path.string() + ": " + what + "; packing again");
    ::unlink(path.c_str());
    return std::nullopt;
  };
  struct stat s {};
  if (::fstat(file.fd, &s) != 0 || s.st_size != file_bytes(bytes_)) return damaged("its size is wrong");
  Header header;
  const Header expected;
  std::vector<Digest> table(static_cast<size_t>(chunks_of(bytes_)));
  const auto table_bytes = static_cast<int64_t>(table.size() * sizeof(Digest));
  if (!read_at(file.fd, &header, sizeof header, 0) || !read_at(file.fd, table.data(), table_bytes, kTableAt))
    return damaged("cannot be read");
  if (std::memcmp(header.magic, expected.magic, sizeof header.magic) != 0)
    return damaged("not the format of this llmctl");
  if (header.self != header.computed() || header.key != key_ || static_cast<int64_t>(header.bytes) != bytes_ ||
      header.table != digest_of(table.data(), static_cast<uint64_t>(table_bytes)))
    return damaged("its header is damaged");
  try {
    const PanelMap map = map_panels(file.fd, bytes_, path);
    populate(map, exec_);
    if (!whole(file.fd, map.data.get(), table)) return damaged("its weights are damaged");
    mark_used(file.fd);
    return map;
  } catch (const Error&) {  // no address space left, say: as if it were not there
    return std::nullopt;
  }
}

std::unique_ptr<PanelCache::Writer> PanelCache::writer() {
  const int64_t needed = file_bytes(bytes_), memory = available_bytes() / 4;
  try {
    check(options_.max_bytes == 0 || needed <= options_.max_bytes, Code::io, "[cache] ", human_bytes(needed),
          " of packed weights, the bound is ", human_bytes(options_.max_bytes));
    check(chunks_of(bytes_) * static_cast<int64_t>(sizeof(Digest)) <= kAlign - kTableAt, Code::io, "[cache] ",
          human_bytes(needed), " of packed weights are too many for a file of this format");
    // Written through the page cache: beyond a part of the memory the disk's speed would be the start's.
    check(needed <= memory, Code::io, "[cache] ", human_bytes(needed), " of packed weights, written where ",
          human_bytes(memory), " of memory are to spare");
    entries_of(options_.folder);  // leftovers of writes that died give their room back
    std::error_code ec;
    struct statvfs disk {};
    if (::statvfs(options_.folder.c_str(), &disk) == 0) {
      const auto left = static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
      check(left > needed + needed / 8, Code::io, "[cache] ", options_.folder.string(), ": ", human_bytes(left),
            " left on its disk, ", human_bytes(needed), " wanted");
    }
    return std::make_unique<Writer>(options_.folder, key_, bytes_, exec_);
  } catch (const std::exception& e) {  // no thread, no memory
    say(std::string(e.what()) + "; going on without (--no-cache)");
    return nullptr;
  }
}

void PanelCache::evict() const {
  const std::string own = key_.hex() + ".panels";
  int64_t kept_bytes = file_bytes(bytes_);
  size_t kept = 1;
  for (const Entry& e : entries_of(options_.folder)) {
    if (e.path.filename() == own) continue;
    const bool fits = options_.max_bytes > 0 ? kept_bytes + e.bytes <= options_.max_bytes : kept < kModels;
    if (!fits) {
      ::unlink(e.path.c_str());
      continue;
    }
    ++kept;
    kept_bytes += e.bytes;
  }
}

}  // namespace llmctl
