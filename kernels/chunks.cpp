// SPDX-License-Identifier: Apache-2.0
// CopyHeads and JoinTerms on the CPU: blocks of rows.
#include "kernels/chunks.h"

#include "kernels/rows.h"
#include "kernels/simd.h"

namespace llmctl::kn {

#if KN_ONCE
namespace {
void check_heads(const char* who, const View& part, const View& whole, int64_t first) {
  check(part.rank == 3 && whole.rank == 3 && part.dim[2] == whole.dim[2] && first >= 0 &&
            first + part.dim[1] <= whole.dim[1],
        Code::bug, "[", who, "] heads ", first, " to ", first + part.dim[1], " of ", part.dim[2], " of ", whole.dim[1],
        " heads of ", whole.dim[2]);
}
}  // namespace

void CopyHeads::check() const {
  check_heads(kName, y, x, first);
  llmctl::check(x.dtype == y.dtype && (x.dtype == DType::f32 || x.dtype == DType::bf16), Code::bug, "[", kName,
                "] x is ", name_of(x.dtype), " and y ", name_of(y.dtype), ": want one of f32 and bf16");
  if (from)
    check_vector(kName, "from", from, DType::i32, y.dim[0]);
  else
    llmctl::check(x.dim[0] == y.dim[0], Code::bug, "[", kName, "] ", x.dim[0], " rows to ", y.dim[0]);
}

void JoinTerms::check() const {
  check_heads(kName, terms, y, first);
  const int64_t n = from.cols();
  llmctl::check(terms.dtype == DType::f32 && (y.dtype == DType::f32 || y.dtype == DType::bf16), Code::bug, "[", kName,
                "] terms are ", name_of(terms.dtype), " and y ", name_of(y.dtype), ": want f32, and f32 or bf16");
  llmctl::check(from.dtype == DType::i32 && from.rank == 2 && from.dim[0] == y.dim[0] && n >= 1 && n <= kMost &&
                    (n & (n - 1)) == 0,
                Code::bug, "[", kName, "] from is ", name_of(from.dtype), " (", from.dim[0], ",", n, "): want i32 (",
                y.dim[0], ", a power of two up to ", kMost, ")");
}
#endif

namespace {

// Terms join like the bits of a counter: equal subtrees merge.
KN_INLINE F32 join(const float* terms, int64_t width, const int32_t* from, int64_t count, int64_t i, int64_t n) {
  F32 level[8];
  int64_t depth = 0;
  for (int64_t c = 0; c < count; ++c) {
    level[depth++] = from[c] < 0 ? zero() : load_row(terms + from[c] * width + i, n);
    for (int64_t done = c + 1; done % 2 == 0; done /= 2, --depth)
      level[depth - 2] = add(level[depth - 2], level[depth - 1]);
  }
  return add(level[0], zero());
}

}  // namespace

void launch(KN_CPU, const CopyHeads& a, const Exec& ex) {
  const int64_t size = size_of(a.x.dtype) * a.x.dim[2], row = size * a.x.dim[1], width = size * a.y.dim[1];
  const int32_t* from = a.from.as<int32_t>();
  for_blocks(ex, a.y.dim[0], rows_per_task(width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      std::memcpy(a.y.as<char>() + r * width, a.x.as<char>() + (from ? from[r] : r) * row + a.first * size,
                  static_cast<size_t>(width));
  });
}

void launch(KN_CPU, const JoinTerms& a, const Exec& ex) {
  const int64_t width = a.terms.dim[1] * a.terms.dim[2], count = a.from.cols();
  const int64_t row = a.y.dim[1] * a.y.dim[2], first = a.first * a.y.dim[2];
  by_dtype(a.y, [&](auto* y) {
    for_blocks(ex, a.y.dim[0], rows_per_task(width * count), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for_lanes(width, [&](int64_t i, int64_t n) {
          store_row(y + r * row + first + i, join(a.terms.as<float>(), width, a.from.as<int32_t>() + r * count, count, i, n), n);
        });
    });
  });
}

}  // namespace llmctl::kn
