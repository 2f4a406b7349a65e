// SPDX-License-Identifier: Apache-2.0
// Embeddings on CUDA: a thread a column; backward walks the tokens in order, so that an element of
// grad has one writer. Not yet run on a GPU.
#include "kernels/embedding.h"
#include "kernels/rows_device.h"

namespace llmctl::kn {
namespace {

template <class T>
__device__ float entry(const T* p, bool as_bf16) {
  if (!as_bf16) return widen(*p);
  bf16_t rounded;
  put(&rounded, widen(*p));
  return widen(rounded);
}

template <class T, class Y>
__global__ void embed_forward(const int32_t* ids, const T* table, const int32_t* positions, const T* places,
                              Y* out, int64_t size, int64_t d, bool as_bf16) {
  const int64_t at = global_thread();
  if (at >= size) return;
  const int64_t t = at / d, i = at % d;
  const float x = entry(table + ids[t] * d + i, as_bf16);
  put(out + at, positions ? x + entry(places + positions[t] * d + i, as_bf16) : x);
}

template <class X, class G>
__global__ void embed_backward(const int32_t* ids, const X* dx, G* grad, int64_t rows, int64_t d, float limit,
                               int32_t* overflow) {
  const int64_t i = global_thread();
  if (i >= d) return;
  for (int64_t t = 0; t < rows; ++t) add_grad(grad + ids[t] * d + i, widen(dx[t * d + i]), limit, overflow);
}

__global__ void to_fixed_kernel(const float* x, int64_t* y, int64_t n) {
  const int64_t i = global_thread();
  if (i < n) y[i] = fits_fixed(x[i], fixed_limit(1)) ? to_fixed(x[i]) : 0;
}

}  // namespace

void launch(Cuda, const EmbedFwd& a, const Exec& ex) {
  const int64_t size = a.out.size();
  if (size == 0) return;
  by_dtype(a.table, [&](auto* table) {
    by_dtype(a.out, [&](auto* out) {
      embed_forward<<<blocks_for(size, kThreads), kThreads, 0, stream_of(ex)>>>(
          a.ids.as<int32_t>(), table, a.positions.as<int32_t>(),
          static_cast<decltype(table)>(a.position_table.data), out, size, a.out.cols(), a.as_bf16);
    });
  });
}

void launch(Cuda, const EmbedBwd& a, const Exec& ex) {
  const int64_t t = a.dx.rows(), d = a.dx.cols();
  if (t == 0) return;
  by_dtype(a.dx, [&](auto* dx) {
    by_grad(a.grad, [&](auto* grad) {
      embed_backward<<<blocks_for(d, kThreads), kThreads, 0, stream_of(ex)>>>(
          a.ids.as<int32_t>(), dx, grad, t, d, fixed_limit(a.parts), a.overflow.as<int32_t>());
    });
  });
}

void launch(Cuda, const ToFixed& a, const Exec& ex) {
  const int64_t n = a.x.size();
  if (n == 0) return;
  to_fixed_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream_of(ex)>>>(a.x.as<float>(), a.y.as<int64_t>(), n);
}

}  // namespace llmctl::kn
