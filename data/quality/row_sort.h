// SPDX-License-Identifier: Apache-2.0
// Rows of 32-bit columns sorted out of core: buffered, sorted and spilled in runs within a memory limit,
// merged on the way out. The order of rows and their bytes do not depend on the limit. One thread.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <vector>

#include "core/base/file.h"

namespace llmctl {

struct RowShape {
  int keys = 1;     // leading columns, compared in order as unsigned numbers
  int payload = 0;  // columns after them
  // Rows with equal keys become one: the first two payload columns are a u64 (low, high) that is added.
  // Otherwise keys must differ.
  bool add_counts = false;
  int width() const { return keys + payload; }
};

class RowSorter {
 public:
  // `run_file` holds spilled runs; removed by the destructor.
  RowSorter(fs::path run_file, RowShape shape, uint64_t memory_bytes);
  ~RowSorter();
  RowSorter(const RowSorter&) = delete;
  RowSorter& operator=(const RowSorter&) = delete;
  void push(const uint32_t* row);
  // Sorted rows one by one after the last push: true while there is one. Error{io}.
  void rewind();
  bool next();
  const uint32_t* row() const { return row_.data(); }

 private:
  struct Run {
    uint64_t offset = 0, rows = 0;  // left in the file
    std::vector<uint32_t> buffer;
    size_t at = 0;
  };
  void sort_buffer();
  void spill();
  bool fill(Run& run);
  bool less(size_t a, size_t b) const;
  void sift(size_t at);
  bool take(std::vector<uint32_t>& row);  // the smallest row of all runs

  fs::path path_;
  RowShape shape_;
  size_t width_, capacity_;  // columns, rows
  std::FILE* file_ = nullptr;
  std::vector<uint32_t> rows_;
  std::vector<Run> runs_;
  std::vector<size_t> heap_;
  std::vector<uint32_t> row_, ahead_;
  bool has_ahead_ = false;
};

}  // namespace llmctl
