// SPDX-License-Identifier: Apache-2.0
// CopyHeads and JoinTerms on CUDA: a thread an element. Not yet run on a GPU.
#include "kernels/chunks.h"
#include "kernels/rows_device.h"

namespace llmctl::kn {
namespace {

template <class T>
__global__ void copy_heads_kernel(const T* x, const int32_t* from, T* y, int64_t size, int64_t width, int64_t row,
                                  int64_t first) {
  const int64_t at = global_thread();
  if (at >= size) return;
  const int64_t r = at / width;
  y[at] = x[(from ? from[r] : r) * row + first + at % width];
}

template <class T>
__global__ void join_terms_kernel(const float* terms, const int32_t* from, T* y, int64_t size, int64_t width,
                                  int64_t count, int64_t row, int64_t first) {
  const int64_t at = global_thread();
  if (at >= size) return;
  const int64_t r = at / width, i = at % width;
  float level[8];
  int depth = 0;
  for (int64_t c = 0; c < count; ++c) {
    const int32_t term = from[r * count + c];
    level[depth++] = term < 0 ? 0.0f : terms[term * width + i];
    for (int64_t done = c + 1; done % 2 == 0; done /= 2, --depth) level[depth - 2] += level[depth - 1];
  }
  put(y + r * row + first + i, level[0] + 0.0f);
}

}  // namespace

void launch(Cuda, const CopyHeads& a, const Exec& ex) {
  const int64_t size = a.y.size();
  if (size == 0) return;
  by_dtype(a.y, [&](auto* y) {
    copy_heads_kernel<<<blocks_for(size, kThreads), kThreads, 0, stream_of(ex)>>>(
        static_cast<decltype(y)>(a.x.data), a.from.as<int32_t>(), y, size, a.y.dim[1] * a.y.dim[2],
        a.x.dim[1] * a.x.dim[2], a.first * a.x.dim[2]);
  });
}

void launch(Cuda, const JoinTerms& a, const Exec& ex) {
  const int64_t width = a.terms.dim[1] * a.terms.dim[2], size = a.y.dim[0] * width;
  if (size == 0) return;
  by_dtype(a.y, [&](auto* y) {
    join_terms_kernel<<<blocks_for(size, kThreads), kThreads, 0, stream_of(ex)>>>(
        a.terms.as<float>(), a.from.as<int32_t>(), y, size, width, a.from.cols(), a.y.dim[1] * a.y.dim[2],
        a.first * a.y.dim[2]);
  });
}

}  // namespace llmctl::kn
