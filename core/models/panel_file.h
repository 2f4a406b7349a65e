// SPDX-License-Identifier: Apache-2.0
// The bytes of a KEY.panels file: a header at 0, a stamp at 512, the chunks' digests at 4096, the weights
// at 2 MiB, so that a mapping can use the pages of the page cache as huge ones. For panel_cache*.cpp.
#pragma once

#include <memory>
#include <vector>

#include "core/models/panel_cache.h"

namespace llmctl::panel_file {

constexpr int64_t kAlign = int64_t{2} << 20;
constexpr int64_t kTableAt = 4096;

struct Header {
  char magic[16] = {'l', 'l', 'm', 'c', 't', 'l', ' ', 'p', 'a', 'n', 'e', 'l', 's', ' ', '1', '\n'};
  uint64_t bytes = 0;  // of the weights
  Digest key;
  Digest table;  // of the chunks' digests
  Digest self;   // of the fields above
  Digest computed() const { return digest_of(this, offsetof(Header, self)); }
};

inline int64_t padded(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }
inline int64_t chunks_of(int64_t bytes) { return padded(bytes) / kAlign; }
inline int64_t file_bytes(int64_t bytes) { return kAlign + padded(bytes); }

struct Fd {
  int fd = -1;
  explicit Fd(int f) : fd(f) {}
  ~Fd();
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
};

// All or nothing; false with errno set.
bool write_at(int fd, const void* data, int64_t bytes, int64_t at);
bool read_at(int fd, void* data, int64_t bytes, int64_t at);

// The weights' part of a file of file_bytes(bytes). Error{io}.
PanelMap map_panels(int fd, int64_t bytes, const fs::path& path);

// The stamp says that the file was whole in this boot of the system, when it had the time of last write
// it has now. Both do nothing where the system or the file's owner forbids it.
void write_stamp(int fd);
bool has_stamp(int fd);
// Marks the file as used now: eviction goes by the time of last access.
void mark_used(int fd);

}  // namespace llmctl::panel_file
