// SPDX-License-Identifier: Apache-2.0
#include "data/dedup/spilled_runs.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/base/digest.h"

namespace llmctl {

struct SpilledRuns::Run {
  fs::path path;
  uint64_t number = 0, rows = 0, blocks = 0;
  int fd = -1;
  ~Run() {
    if (fd >= 0) ::close(fd);
    std::error_code ignored;
    if (!path.empty()) fs::remove(path, ignored);
  }
};

namespace {

// A block at the wrong place, in the wrong file or of the wrong length is as bad as one with a wrong bit.
uint64_t checksum(const void* rows, uint64_t bytes, uint64_t run, uint64_t block) {
  const Digest d = digest_of(rows, bytes);
  const uint64_t words[] = {d.low, d.high, bytes, run, block};
  return digest_of(words, sizeof words).low;
}

}  // namespace

SpilledRuns::SpilledRuns(const SortOptions& options, uint64_t row_bytes)
    : options_(options), row_bytes_(row_bytes) {
  check(row_bytes > 0 && row_bytes <= kBlockBytes, Code::bug, "[sort] ", options.name, ": a row of ",
        row_bytes, " bytes, at most ", kBlockBytes);
}
SpilledRuns::~SpilledRuns() = default;

std::string SpilledRuns::title(const Run& run) const {
  return "[sort] " + options_.name + " in " + run.path.string() + ": ";
}

size_t SpilledRuns::open() {
  auto run = std::make_unique<Run>();
  run->number = runs_.size();
  const fs::path path = options_.folder / (options_.name + "-" + std::to_string(run->number) + ".run");
  run->fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  check(run->fd >= 0, Code::io, "[sort] cannot make ", path.string(), ": ", std::strerror(errno));
  run->path = path;  // ours from here on
  block_.clear();
  block_.reserve(rows_per_block() * row_bytes_ + sizeof(uint64_t));
  runs_.push_back(std::move(run));
  return runs_.size() - 1;
}

void SpilledRuns::append(size_t run, const void* row) {
  const char* bytes = static_cast<const char*>(row);
  block_.insert(block_.end(), bytes, bytes + row_bytes_);
  ++runs_[run]->rows;
  if (block_.size() == rows_per_block() * row_bytes_) write_block(*runs_[run]);
}

void SpilledRuns::write_block(Run& run) {
  const uint64_t sum = checksum(block_.data(), block_.size(), run.number, run.blocks);
  const char* bytes = reinterpret_cast<const char*>(&sum);
  block_.insert(block_.end(), bytes, bytes + sizeof sum);
  for (size_t done = 0; done < block_.size();) {
    const ssize_t n = ::write(run.fd, block_.data() + done, block_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    check(n > 0, Code::io, title(run), std::strerror(errno), " after ", written_,
          " bytes were spilled; free space there, name another folder or allow more memory");
    done += static_cast<size_t>(n);
    written_ += static_cast<uint64_t>(n);
  }
  ++run.blocks;
  block_.clear();
}

void SpilledRuns::close(size_t run) {
  if (!block_.empty()) write_block(*runs_[run]);
}

uint64_t SpilledRuns::read(size_t number, uint64_t block, void* rows) const {
  const Run& run = *runs_[number];
  if (block >= run.blocks) return 0;
  const uint64_t here = std::min(rows_per_block(), run.rows - block * rows_per_block()),
                 bytes = here * row_bytes_;
  const uint64_t offset = block * (rows_per_block() * row_bytes_ + sizeof(uint64_t));
  uint64_t sum = 0;
  const auto take = [&](void* out, uint64_t n, uint64_t at) {
    for (uint64_t done = 0; done < n;) {
      const ssize_t got =
          ::pread(run.fd, static_cast<char*>(out) + done, n - done, static_cast<off_t>(at + done));
      if (got < 0 && errno == EINTR) continue;
      check(got >= 0, Code::io, title(run), std::strerror(errno));
      check(got > 0, Code::io, title(run), "ends at byte ", at + done, ", ", n - done,
            " bytes before what was written; run again");
      done += static_cast<uint64_t>(got);
    }
  };
  take(rows, bytes, offset);
  take(&sum, sizeof sum, offset + bytes);
  check(sum == checksum(rows, bytes, run.number, block), Code::io, title(run), "block ", block, " of ",
        run.blocks, " is not what was written (checksum); is the disk sound? run again");
  return here;
}

void SpilledRuns::remove(size_t run) {
  runs_[run] = std::make_unique<Run>();
}

}  // namespace llmctl
