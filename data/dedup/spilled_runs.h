// SPDX-License-Identifier: Apache-2.0
// Files of sorted rows that a sort (external_sort.h) puts down and takes up again: one file per run, in
// blocks of 64 KiB, each with a checksum over its bytes, its place and its run. Errors: Error{io} for a
// full disk or a lost file (saying how much was spilled) and for a block that is not what was written.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/file.h"

namespace llmctl {

struct SortOptions {
  fs::path folder;                              // exists; files are named NAME-0.run, NAME-1.run, ...
  std::string name;                             // of the rows, for files and errors
  uint64_t memory_bytes = uint64_t{256} << 20;  // below 1 MiB it is taken for 1 MiB
};

// Threads: one. The destructor removes what files are left.
class SpilledRuns {
 public:
  static constexpr uint64_t kBlockBytes = uint64_t{64} << 10;

  SpilledRuns(const SortOptions& options, uint64_t row_bytes);
  ~SpilledRuns();
  SpilledRuns(const SpilledRuns&) = delete;
  SpilledRuns& operator=(const SpilledRuns&) = delete;

  uint64_t rows_per_block() const { return kBlockBytes / row_bytes_; }
  size_t count() const { return runs_.size(); }  // ever opened
  uint64_t written_bytes() const { return written_; }

  // A new run; rows are appended to it until it is closed. One is open at a time.
  size_t open();
  void append(size_t run, const void* row);
  void close(size_t run);
  // The block-th block of a closed run into `rows` (space for rows_per_block()); its rows, 0 at the end.
  uint64_t read(size_t run, uint64_t block, void* rows) const;
  void remove(size_t run);

 private:
  struct Run;
  void write_block(Run& run);
  std::string title(const Run& run) const;
  SortOptions options_;
  uint64_t row_bytes_, written_ = 0;
  std::vector<char> block_;  // of the open run
  std::vector<std::unique_ptr<Run>> runs_;
};

}  // namespace llmctl
