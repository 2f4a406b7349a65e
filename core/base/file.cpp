// SPDX-License-Identifier: Apache-2.0
#include "core/base/file.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace llmctl {
namespace {

struct Fd {
  int fd = -1;
  ~Fd() {
    if (fd >= 0) ::close(fd);
  }
};

// An open regular file and its size.
uint64_t open_regular(const fs::path& path, Fd& out) {
  out.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (out.fd < 0) {
    bool missing = errno == ENOENT || errno == ENOTDIR;
    throw Error(missing ? Code::input : Code::io,
                "[file] " + path.string() + ": " + (missing ? "no such file" : std::strerror(errno)));
  }
  struct stat info {};
  check(::fstat(out.fd, &info) == 0, Code::io, "[file] ", path.string(), ": ", std::strerror(errno));
  check(!S_ISDIR(info.st_mode), Code::input, "[file] ", path.string(), ": is a folder, a file is needed");
  check(S_ISREG(info.st_mode), Code::input, "[file] ", path.string(), ": is not a regular file");
  return static_cast<uint64_t>(info.st_size);
}

bool hidden(const fs::path& path) {
  std::string name = path.filename().string();
  return !name.empty() && name[0] == '.';
}

void add_folder(const fs::path& folder, std::vector<fs::path>& out) {
  std::error_code ec;
  fs::recursive_directory_iterator it(folder, fs::directory_options::follow_directory_symlink, ec), end;
  for (; !ec && it != end; it.increment(ec)) {
    if (hidden(it->path())) {
      it.disable_recursion_pending();  // temporary outputs and version control are no inputs
      continue;
    }
    if (it.depth() > 64) throw Error(Code::input, "[file] " + folder.string() + ": deeper than 64 folders");
    std::error_code type_ec;
    if (it->is_regular_file(type_ec)) out.push_back(it->path());
  }
  check(!ec, Code::io, "[file] ", folder.string(), ": ", ec.message());
}

void add_glob(const std::string& pattern, std::vector<fs::path>& out) {
  glob_t found{};
  int rc = ::glob(pattern.c_str(), 0, nullptr, &found);
  for (size_t i = 0; rc == 0 && i < found.gl_pathc; ++i) {
    fs::path path = found.gl_pathv[i];
    std::error_code ec;
    if (fs::is_directory(path, ec))
      add_folder(path, out);
    else
      out.push_back(path);
  }
  ::globfree(&found);
}

}  // namespace

std::string read_file(const fs::path& path, uint64_t max_bytes) {
  Fd file;
  uint64_t size = open_regular(path, file);
  check(size <= max_bytes, Code::input, "[file] ", path.string(), ": ", size, " bytes, the limit here is ",
        max_bytes);
  std::string text(size, '\0');
  uint64_t have = 0;
  while (have < size) {
    ssize_t n = ::read(file.fd, text.data() + have, size - have);
    if (n < 0 && errno == EINTR) continue;
    check(n >= 0, Code::io, "[file] ", path.string(), ": ", std::strerror(errno));
    if (n == 0) break;
    have += static_cast<uint64_t>(n);
  }
  text.resize(have);
  return text;
}

namespace {
int64_t nanoseconds(const timespec& t) { return t.tv_sec * 1'000'000'000 + t.tv_nsec; }

FileIdentity identity_of(const struct stat& s) {
  return {s.st_dev, s.st_ino, s.st_size, nanoseconds(s.st_mtim), nanoseconds(s.st_ctim)};
}
}  // namespace

FileIdentity identity_of(const fs::path& file) {
  struct stat s {};
  check(::stat(file.c_str(), &s) == 0, Code::input, "[file] ", file.string(), ": ", std::strerror(errno));
  return identity_of(s);
}

struct FileMap::State {
  FileIdentity identity;
  void* data = nullptr;
  uint64_t size = 0;
  ~State() {
    if (data) ::munmap(data, size);
  }
};

FileMap::FileMap(const fs::path& path) : state_(std::make_shared<State>()) {
  Fd file;
  uint64_t size = open_regular(path, file);
  struct stat s {};
  if (::fstat(file.fd, &s) == 0) state_->identity = identity_of(s);
  if (size == 0) return;  // an empty map is not a thing the system knows
  void* p = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.fd, 0);
  check(p != MAP_FAILED, Code::io, "[file] ", path.string(), ": cannot map: ", std::strerror(errno));
  state_->data = p;
  state_->size = size;
}
const std::byte* FileMap::data() const {
  return static_cast<const std::byte*>(state_->data);
}
const FileIdentity& FileMap::identity() const {
  return state_->identity;
}
uint64_t FileMap::size() const {
  return state_->size;
}

std::vector<fs::path> expand_inputs(const std::vector<std::string>& inputs) {
  std::vector<fs::path> out;
  for (const std::string& input : inputs) {
    std::vector<fs::path> found;
    std::error_code ec;
    if (input == "-") {
      found.emplace_back("-");
    } else if (fs::is_directory(input, ec)) {
      add_folder(input, found);
    } else if (fs::exists(input, ec)) {
      found.emplace_back(input);
    } else if (input.find_first_of("*?[") != std::string::npos) {
      add_glob(input, found);
    }
    check(!found.empty(), Code::input, "[file] ", input, ": no such file, and nothing matches it");
    std::sort(found.begin(), found.end());  // paths differ, so the order is total
    out.insert(out.end(), found.begin(), found.end());
  }
  check(!out.empty(), Code::input, "[file] no input given");
  return out;
}

Error error_of(const std::exception& e) {
  if (const auto* known = dynamic_cast<const Error*>(&e)) return *known;
  if (const auto* file = dynamic_cast<const fs::filesystem_error*>(&e))
    return Error(Code::io, "[file] " + file->path1().string() + ": " + file->code().message() + "; is the place there and writable?");
  if (dynamic_cast<const std::bad_alloc*>(&e)) return Error(Code::memory, "[memory] not enough memory");
  return Error(Code::bug, std::string("[bug] ") + e.what() + "; please report it");
}

}  // namespace llmctl
