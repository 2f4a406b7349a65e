// SPDX-License-Identifier: Apache-2.0
// The tree over subtree roots on CUDA: a thread an element. Not yet run on a GPU.
#include "kernels/rows_device.h"
#include "kernels/tree_sum.h"

namespace llmctl::kn {
namespace {

__device__ inline float any_value(const View& v, int64_t at) {
  return v.dtype == DType::f32 ? static_cast<const float*>(v.data)[at] : widen(static_cast<const bf16_t*>(v.data)[at]);
}

template <class Y>
__global__ void join_roots(const float* roots, int64_t n, View bias, View residual, Y* y, int64_t size, int64_t cols) {
  const int64_t at = global_thread();
  if (at >= size) return;
  float sums[TreeSum::kMostRoots];
  for (int64_t i = 0; i < n; ++i) sums[i] = roots[i * size + at];
  for (; n > 1; n /= 2)
    for (int64_t i = 0; i < n / 2; ++i) sums[i] = sums[2 * i] + sums[2 * i + 1];
  float sum = sums[0];
  if (bias.data) sum = sum + any_value(bias, at % cols);
  if (residual.data) sum = sum + any_value(residual, at);
  put(y + at, sum);
}

template <class Y>
void join(const TreeSum& a, const Exec& ex) {
  const int64_t size = a.y.size();
  if (size > 0)
    join_roots<<<blocks_for(size, kThreads), kThreads, 0, stream_of(ex)>>>(a.roots.as<float>(), a.roots.dim[0], a.bias,
                                                                         a.residual, a.y.as<Y>(), size, a.y.cols());
}

}  // namespace

void launch(Cuda, const TreeSum& a, const Exec& ex) {
  a.y.dtype == DType::f32 ? join<float>(a, ex) : join<bf16_t>(a, ex);
}

}  // namespace llmctl::kn
