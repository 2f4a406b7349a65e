// SPDX-License-Identifier: Apache-2.0
// How elementwise and row ops walk their views: dtype switches, vectors over a row with its tail,
// tasks by shape, and the checks they share. For sources compiled once per instruction set.
#pragma once

#include "kernels/fixed.h"
#include "kernels/simd.h"

namespace llmctl::kn {
namespace KN_NS {

// f(pointer to the elements) for storage in f32 or bf16; for a gradient in i64 or f32.
template <class F>
KN_INLINE void by_dtype(const View& v, F&& f) {
  v.dtype == DType::f32 ? f(static_cast<float*>(v.data)) : f(static_cast<bf16_t*>(v.data));
}
template <class F>
KN_INLINE void by_grad(const View& v, F&& f) {
  v.dtype == DType::f32 ? f(static_cast<float*>(v.data)) : f(static_cast<int64_t*>(v.data));
}

// body(i, lanes) for i = 0, 16, ...; lanes is the constant 16 but for the tail.
template <class Body>
KN_INLINE void for_lanes(int64_t n, Body&& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, kLanes);
  if (i < n) body(i, n - i);
}

// The lanes below n kept, the others `fill`.
KN_INLINE F32 keep(F32 x, int64_t n, F32 fill) {
  if (n >= kLanes) return x;
  return select(ilt(iota(), iset1(static_cast<int32_t>(n))), x, fill);
}

// body(begin, end) over [0, n) in tasks of `each`.
template <class Body>
KN_INLINE void for_blocks(const Exec& ex, int64_t n, int64_t each, Body&& body) {
  parallel_for(ex, (n + each - 1) / each, [&](int64_t task) {
    const int64_t begin = task * each, end = begin + each < n ? begin + each : n;
    body(begin, end);
  });
}
// Rows of `cols` elements that make a task of about 16 Ki elements.
KN_INLINE int64_t rows_per_task(int64_t cols) {
  return cols >= 16384 ? 1 : 16384 / (cols > 0 ? cols : 1);
}

#if KN_ONCE
inline bool is_row_type(const View& v) {
  return v.dtype == DType::f32 || v.dtype == DType::bf16;
}
inline void check_rows(const char* who, const char* name, const View& v, int64_t rows, int64_t cols) {
  check(is_row_type(v), Code::bug, "[", who, "] ", name, " is ", name_of(v.dtype), ": want f32 or bf16");
  check(v.rows() == rows && v.cols() == cols, Code::bug, "[", who, "] ", name, " is (", v.rows(), ",",
        v.cols(), "): want (", rows, ",", cols, ")");
}
inline void check_vector(const char* who, const char* name, const View& v, DType dtype, int64_t n) {
  check(v.dtype == dtype && v.size() == n, Code::bug, "[", who, "] ", name, " is ", v.size(), " of ",
        name_of(v.dtype), ": want ", n, " of ", name_of(dtype));
}
inline void check_residual(const char* who, const View& residual, const View& dx) {
  if (!residual) return;
  check_rows(who, "dresidual", residual, dx.rows(), dx.cols());
  check(residual.dtype == dx.dtype, Code::bug, "[", who, "] dresidual is ", name_of(residual.dtype),
        " and dx is ", name_of(dx.dtype), ": want the same");
}
inline void check_grad(const char* who, const View& grad, int64_t n, const View& overflow, int64_t parts) {
  check(grad.dtype == DType::f32 || grad.dtype == DType::i64, Code::bug, "[", who, "] grad is ",
        name_of(grad.dtype), ": want i64 or f32");
  check(grad.size() == n, Code::bug, "[", who, "] grad has ", grad.size(), " elements: want ", n);
  check(parts >= 1, Code::bug, "[", who, "] parts is ", parts, ": want at least 1");
  if (grad.dtype == DType::i64) check_vector(who, "overflow", overflow, DType::i32, 1);
}
#endif

}  // namespace KN_NS
}  // namespace llmctl::kn
