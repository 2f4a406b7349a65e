// SPDX-License-Identifier: Apache-2.0
// A typed, contiguous, row-major window on memory somebody else owns. No strides: another layout
// is a named op. Copying a View copies the window, never the bytes. In a planning pass (exec.h)
// data may be an address that must not be touched.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "kernels/error.h"

namespace llmctl::kn {

enum class DType : uint8_t { f32, bf16, f16, i64, i32, i8, u8, u16, u32 };

constexpr int64_t size_of(DType t) {
  constexpr int64_t sizes[] = {4, 2, 2, 8, 4, 1, 1, 2, 4};
  return sizes[static_cast<int>(t)];
}
constexpr const char* name_of(DType t) {
  constexpr const char* names[] = {"f32", "bf16", "f16", "i64", "i32", "i8", "u8", "u16", "u32"};
  return names[static_cast<int>(t)];
}

using bf16_t = uint16_t;  // the top half of a float; arithmetic is done after widening

struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  int rank = 0;
  std::array<int64_t, 4> dim{1, 1, 1, 1};

  View() = default;
  View(void* p, DType t, std::initializer_list<int64_t> dims) : data(p), dtype(t) {
    for (int64_t d : dims) dim[static_cast<size_t>(rank++)] = d;
  }
  int64_t size() const { return dim[0] * dim[1] * dim[2] * dim[3]; }
  int64_t bytes() const { return size() * size_of(dtype); }
  // The last dimension, and the product of all before it.
  int64_t cols() const { return rank ? dim[static_cast<size_t>(rank - 1)] : 1; }
  int64_t rows() const { return cols() ? size() / cols() : 0; }
  explicit operator bool() const { return data != nullptr; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace llmctl::kn
