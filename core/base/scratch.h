// SPDX-License-Identifier: Apache-2.0
// Big tables of a batch job that may pass what memory it was given: an array in memory, or in a file without
// a name, whose pages the system writes out and reads back as it needs. Elements are zero until written.
// Threads: one that changes the size, any number that use what it holds meanwhile not.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "core/base/file.h"

namespace llmctl {

class ScratchBytes {
 public:
  // In memory when `folder` is empty, else in an unnamed file there.
  explicit ScratchBytes(const fs::path& folder = {});
  ~ScratchBytes();
  ScratchBytes(ScratchBytes&& o) noexcept
      : file_(std::exchange(o.file_, -1)),
        data_(std::exchange(o.data_, nullptr)),
        bytes_(std::exchange(o.bytes_, 0)) {}
  ScratchBytes& operator=(ScratchBytes&& o) noexcept {
    std::swap(file_, o.file_);
    std::swap(data_, o.data_);
    std::swap(bytes_, o.bytes_);
    return *this;
  }
  // Keeps what is there; what is there may move. Error{memory}, Error{io} when the disk is full.
  void resize(size_t bytes);
  std::byte* data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  int file_ = -1;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

template <class T>
class ScratchArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit ScratchArray(const fs::path& folder = {}) : bytes_(folder) {}
  void resize(size_t n) {
    if (n * sizeof(T) > bytes_.size() || n == 0) bytes_.resize(n * sizeof(T));
    size_ = n;
  }
  void push_back(const T& value) {
    if (size_ * sizeof(T) == bytes_.size()) bytes_.resize((size_ < 512 ? 1024 : size_ * 2) * sizeof(T));
    data()[size_++] = value;
  }
  T* data() const { return reinterpret_cast<T*>(bytes_.data()); }
  T& operator[](size_t i) const { return data()[i]; }
  size_t size() const { return size_; }

 private:
  ScratchBytes bytes_;
  size_t size_ = 0;
};

}  // namespace llmctl
