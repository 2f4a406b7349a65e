// SPDX-License-Identifier: Apache-2.0
// The tree over subtree roots on the CPU: a task is some 16 Ki elements of whole rows.
#include "kernels/tree_sum.h"

#include "kernels/rows.h"

namespace llmctl::kn {

#if KN_ONCE
void TreeSum::check() const {
  const int64_t n = roots.dim[0];
  llmctl::check(roots.rank == 3 && roots.dtype == DType::f32 && n >= 1 && n <= kMostRoots && (n & (n - 1)) == 0, Code::bug,
                "[tree_sum] ", n, " roots of ", name_of(roots.dtype), ": want a power of two up to ", kMostRoots, " of f32");
  check_rows(kName, "y", y, roots.dim[1], roots.dim[2]);
  if (residual) check_rows(kName, "residual", residual, y.rows(), y.cols());
  llmctl::check(!bias || (is_row_type(bias) && bias.size() == y.cols()), Code::bug, "[tree_sum] bias has ", bias.size(),
                " elements and y ", y.cols(), " columns");
}
#endif

namespace {

// Neighbours join, then pairs of pairs: n sums in place.
KN_INLINE F32 join(F32* sums, int64_t n) {
  for (; n > 1; n /= 2)
    for (int64_t i = 0; i < n / 2; ++i) sums[i] = add(sums[2 * i], sums[2 * i + 1]);
  return sums[0];
}

template <class Y>
void join_rows(const TreeSum& a, Y* y, const Exec& ex) {
  const int64_t n = a.roots.dim[0], rows = a.y.rows(), cols = a.y.cols();
  const float* roots = a.roots.as<float>();
  for_blocks(ex, rows, rows_per_task(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for_lanes(cols, [&](int64_t c, int64_t lanes) {
        const int64_t at = r * cols + c;
        F32 sums[TreeSum::kMostRoots];
        for (int64_t i = 0; i < n; ++i) sums[i] = load(roots + i * rows * cols + at, lanes);
        F32 sum = join(sums, n);
        if (a.bias) by_dtype(a.bias, [&](auto* b) { sum = add(sum, load_row(b + c, lanes)); });
        if (a.residual) by_dtype(a.residual, [&](auto* x) { sum = add(sum, load_row(x + at, lanes)); });
        store_row(y + at, sum, lanes);
      });
  });
}

}  // namespace

void launch(KN_CPU, const TreeSum& a, const Exec& ex) {
  by_dtype(a.y, [&](auto* y) { join_rows(a, y, ex); });
}

}  // namespace llmctl::kn
