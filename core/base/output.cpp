// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/base/file.h"

namespace llmctl {
namespace {

[[noreturn]] void fail(const fs::path& path, const char* what) {
  int code = errno;
  const char* hint = code == ENOSPC || code == EDQUOT ? "; free some space or write elsewhere" : "";
  throw Error(Code::io, "[file] " + path.string() + ": cannot " + what + ": " + std::strerror(code) + hint);
}

// Unique among the processes and the threads of this machine; hidden, so that no input list takes it.
fs::path beside(const fs::path& path) {
  static std::atomic<uint64_t> counter{0};
  return path.parent_path() / ("." + path.filename().string() + "." + std::to_string(::getpid()) + "-" +
                               std::to_string(counter.fetch_add(1)) + ".tmp");
}

void refuse_existing(const fs::path& path, bool overwrite) {
  std::error_code ec;
  check(overwrite || !fs::exists(fs::symlink_status(path, ec)), Code::usage, "[file] ", path.string(),
        ": exists already; give --force to replace it");
}

}  // namespace

// Some file systems cannot flush a directory; they say EINVAL.
void flush_path(const fs::path& path) {
  int fd = ::open(path.empty() ? "." : path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  int rc = ::fsync(fd);
  ::close(fd);
  if (rc != 0 && errno != EINVAL && errno != EROFS && errno != EBADF) fail(path, "flush");
}

void flush_tree(const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) flush_path(entry.path());
  flush_path(folder);
}

struct OutputFile::State {
  fs::path final_path, temporary;  // temporary is empty for devices and pipes, written in place
  int fd = -1;
  std::string buffer;
  uint64_t written = 0;

  void flush() {
    const char* p = buffer.data();
    size_t left = buffer.size();
    while (left > 0) {
      ssize_t n = ::write(fd, p, left);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(final_path, "write");
      p += n;
      left -= static_cast<size_t>(n);
    }
    buffer.clear();
  }
};

OutputFile::OutputFile(fs::path path, bool overwrite) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.final_path = std::move(path);
  check(s.final_path.has_filename(), Code::usage, "[file] ", s.final_path.string(),
        ": is no name for a file");
  std::error_code ec;
  fs::file_status status = fs::status(s.final_path, ec);
  check(!fs::is_directory(status), Code::usage, "[file] ", s.final_path.string(), ": is a folder");
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    s.fd = ::open(s.final_path.c_str(), O_WRONLY | O_CLOEXEC);
  } else {
    refuse_existing(s.final_path, overwrite);
    s.temporary = beside(s.final_path);
    s.fd = ::open(s.temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  }
  if (s.fd < 0) fail(s.final_path, "write");
}

OutputFile::~OutputFile() {
  if (state_->fd >= 0) ::close(state_->fd);
  if (!state_->temporary.empty()) ::unlink(state_->temporary.c_str());
}

void OutputFile::write(const void* data, uint64_t bytes) {
  constexpr size_t kBuffer = size_t{1} << 20;
  State& s = *state_;
  s.buffer.append(static_cast<const char*>(data), bytes);
  s.written += bytes;
  if (s.buffer.size() >= kBuffer) s.flush();
}

uint64_t OutputFile::written() const {
  return state_->written;
}

void OutputFile::commit() {
  State& s = *state_;
  s.flush();
  if (::fsync(s.fd) != 0 && errno != EINVAL && errno != EROFS) fail(s.final_path, "flush");
  int fd = std::exchange(s.fd, -1);
  if (::close(fd) != 0) fail(s.final_path, "close");
  if (s.temporary.empty()) return;
  if (::rename(s.temporary.c_str(), s.final_path.c_str()) != 0) fail(s.final_path, "rename");
  s.temporary.clear();
  flush_path(s.final_path.parent_path());
}

void write_file(const fs::path& path, std::string_view text, bool overwrite) {
  OutputFile out(path, overwrite);
  out.write(text);
  out.commit();
}

OutputFolder::OutputFolder(fs::path path, bool overwrite) : final_(std::move(path)), overwrite_(overwrite) {
  if (!final_.has_filename()) final_ = final_.parent_path();  // "out/" is "out"
  check(final_.has_filename(), Code::usage, "[file] ", final_.string(), ": is no name for a folder");
  refuse_existing(final_, overwrite_);
  std::error_code ec;
  if (final_.has_parent_path()) fs::create_directories(final_.parent_path(), ec);
  check(!ec, Code::io, "[file] ", final_.string(), ": cannot create its parent: ", ec.message());
  temporary_ = beside(final_);
  fs::create_directory(temporary_, ec);
  check(!ec, Code::io, "[file] ", final_.string(), ": cannot create: ", ec.message());
}

OutputFolder::~OutputFolder() {
  std::error_code ec;
  if (!done_) fs::remove_all(temporary_, ec);
}

void OutputFolder::commit() {
  flush_tree(temporary_);
  refuse_existing(final_, overwrite_);  // somebody may have been faster
  std::error_code ec;
  fs::path old;
  if (fs::exists(fs::symlink_status(final_, ec))) {
    old = beside(final_);
    if (::rename(final_.c_str(), old.c_str()) != 0) fail(final_, "replace");
  }
  if (::rename(temporary_.c_str(), final_.c_str()) != 0) {
    int code = errno;
    if (!old.empty()) ::rename(old.c_str(), final_.c_str());
    errno = code;
    fail(final_, "rename");
  }
  done_ = true;
  if (!old.empty()) fs::remove_all(old, ec);
  flush_path(final_.parent_path());
}

}  // namespace llmctl
