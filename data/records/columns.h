// SPDX-License-Identifier: Apache-2.0
// Named columns of numbers, one value a document: signals computed once, and verdicts over them.
//
// Little-endian: "LLMCOL1\0", u64 rows, u32 columns; each u8 type (0: f64, 1: u64), u32 bytes of its name,
// the name; u64 checksum of all that; then each column's 8 * rows bytes and u64 their checksum (XXH3).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/base/file.h"

namespace llmctl {

struct Column {
  std::string name;
  bool whole = false;              // u64, else f64
  std::vector<double> reals;       // rows values, when !whole
  std::vector<uint64_t> integers;  // rows values, when whole
  double value(uint64_t row) const { return whole ? static_cast<double>(integers[row]) : reals[row]; }
};

class Columns {
 public:
  explicit Columns(uint64_t rows = 0) : rows_(rows) {}
  uint64_t rows() const { return rows_; }
  void resize(uint64_t rows);  // of all columns; what is added is 0
  // A column of zeros under a name that is not there yet: Error{bug}. Valid until the next one is added.
  std::vector<double>& add_real(const std::string& name);
  std::vector<uint64_t>& add_integer(const std::string& name);
  const Column* find(const std::string& name) const;  // null when absent
  const Column& get(const std::string& name) const;   // Error{input} naming the nearest
  Column& at(size_t column) { return columns_[column]; }
  const std::vector<Column>& all() const { return columns_; }

  Digest save(const fs::path& path, bool overwrite) const;
  // All columns, or those named (and no byte of others is read). Error{input} naming the file and the
  // column for anything that is not as it was written.
  static Columns load(const fs::path& path, const std::vector<std::string>& only = {});

 private:
  Column& add(const std::string& name, bool whole);
  uint64_t rows_ = 0;
  std::vector<Column> columns_;
};

}  // namespace llmctl
