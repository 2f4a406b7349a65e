// SPDX-License-Identifier: Apache-2.0
// Files in and out. Errors: Error{input} for a file that is missing or malformed, Error{io} when
// the system refuses to read or write (disk full, permission).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/error.h"

namespace llmctl {

namespace fs = std::filesystem;

// A whole file in memory; Error{input} when larger than max_bytes.
std::string read_file(const fs::path& path, uint64_t max_bytes = uint64_t{1} << 32);

// What tells one content of a name from another without reading it: what make and rsync trust, and the
// time of the inode's last change, which no program can set back.
struct FileIdentity {
  uint64_t device = 0, inode = 0;
  int64_t size = 0, written = 0, changed = 0;  // bytes; ns since 1970
  bool operator==(const FileIdentity&) const = default;
};
FileIdentity identity_of(const fs::path& file);  // Error{input}

// Read-only memory map, shared by copies.
class FileMap {
 public:
  explicit FileMap(const fs::path& path);
  const FileIdentity& identity() const;  // when it was mapped
  const std::byte* data() const;
  uint64_t size() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// An output that appears under its final name only when complete: written beside it under a
// temporary name, flushed and renamed by commit(), removed by the destructor otherwise.
class OutputFile {
 public:
  // Error{usage} when the path exists and !overwrite.
  OutputFile(fs::path path, bool overwrite);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  void write(const void* data, uint64_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  uint64_t written() const;
  void commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};
void write_file(const fs::path& path, std::string_view text, bool overwrite);

// To disk: a file, or a folder's list of names, without which a rename may be lost with the power. Error{io}.
void flush_path(const fs::path& path);
void flush_tree(const fs::path& folder);  // and all below it

// The same for a folder: fill path() and commit() renames it to the final name.
class OutputFolder {
 public:
  OutputFolder(fs::path path, bool overwrite);
  ~OutputFolder();
  const fs::path& path() const { return temporary_; }
  void commit();

 private:
  fs::path final_, temporary_;
  bool overwrite_ = false, done_ = false;
};

// What any exception is to a user: an Error as it is; the library's of files Error{io}, of memory
// Error{memory}, all others Error{bug}.
Error error_of(const std::exception& e);

// Files, folders (every regular file below, sorted), globs, and "-" for standard input.
// Error{input} when nothing matches.
std::vector<fs::path> expand_inputs(const std::vector<std::string>& inputs);

// Streams the bytes of a file; .gz and .zst are unpacked, "-" is standard input.
class ByteReader {
 public:
  explicit ByteReader(const fs::path& path);
  ~ByteReader();
  // Up to n bytes into out; 0 at the end.
  size_t read(char* out, size_t n);
  // The next line without its newline; false at the end. Error{input} above max_line bytes.
  bool line(std::string& out, size_t max_line = size_t{1} << 30);
  std::string rest(uint64_t max_bytes = uint64_t{1} << 34);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace llmctl
