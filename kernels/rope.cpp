// SPDX-License-Identifier: Apache-2.0
// Rope on the CPU: a task is a block of rows; vectors run over the half head.
#include "kernels/attention.h"
#include "kernels/simd.h"

namespace llmctl::kn {

#if KN_ONCE
void Rope::check() const {
  using llmctl::check;
  const int64_t t = x.dim[0], h = x.dim[1], d = x.dim[2];
  check(x.dtype == DType::f32 || x.dtype == DType::bf16, Code::bug, "[rope] x is ", name_of(x.dtype),
        ": want f32 or bf16");
  check(x.rank == 3 && d % 2 == 0, Code::bug, "[rope] x has rank ", x.rank, " and head dimension ", d,
        ": want (T,H,D) with even D");
  check(y.dtype == x.dtype && y.dim == x.dim, Code::bug, "[rope] y is (", y.dim[0], ",", y.dim[1], ",",
        y.dim[2], "): want x's (", t, ",", h, ",", d, ")");
  check(rotated >= 0 && rotated <= h, Code::bug, "[rope] ", rotated, " rotated heads of ", h);
  check(positions.dtype == DType::i32 && positions.size() == t, Code::bug, "[rope] ", positions.size(),
        " positions for ", t, " rows");
  check(cos.dtype == DType::f32 && sin.dtype == DType::f32 && cos.cols() == d / 2 && sin.dim == cos.dim,
        Code::bug, "[rope] tables have ", cos.cols(), " and ", sin.cols(), " angles: want f32, ", d / 2);
}
#endif

namespace {

constexpr int64_t kTaskRows = 32;

template <class T>
void rotate_head(const T* x, T* y, const float* cos, const float* sin, int64_t half, bool inverse) {
  for (int64_t i = 0; i < half; i += 16) {
    const int64_t n = half - i;
    const F32 c = load(cos + i, n), raw = load(sin + i, n), s = inverse ? sub(zero(), raw) : raw;
    const F32 a = load_row(x + i, n), b = load_row(x + half + i, n);
    store_row(y + i, sub(mul(a, c), mul(b, s)), n);
    store_row(y + half + i, add(mul(b, c), mul(a, s)), n);
  }
}

template <class T>
void rotate_row(const Rope& r, int64_t t) {
  const int64_t h = r.x.dim[1], d = r.x.dim[2], half = d / 2;
  const int64_t at = r.positions.as<int32_t>()[t] * half;
  const T* x = r.x.as<T>() + t * h * d;
  T* y = r.y.as<T>() + t * h * d;
  for (int64_t i = 0; i < r.rotated; ++i)
    rotate_head(x + i * d, y + i * d, r.cos.as<float>() + at, r.sin.as<float>() + at, half, r.inverse);
  if (x != y)
    std::memcpy(y + r.rotated * d, x + r.rotated * d, static_cast<size_t>((h - r.rotated) * d) * sizeof(T));
}

}  // namespace

void launch(KN_CPU, const Rope& r, const Exec& ex) {
  const int64_t rows = r.x.dim[0];
  parallel_for(ex, (rows + kTaskRows - 1) / kTaskRows, [&](int64_t task) {
    const int64_t end = (task + 1) * kTaskRows < rows ? (task + 1) * kTaskRows : rows;
    for (int64_t t = task * kTaskRows; t < end; ++t)
      r.x.dtype == DType::f32 ? rotate_row<float>(r, t) : rotate_row<bf16_t>(r, t);
  });
}

}  // namespace llmctl::kn
