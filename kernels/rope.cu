// SPDX-License-Identifier: Apache-2.0
// Rope on CUDA: a block is a row, a thread one pair (i, i + D/2). Not yet run on a GPU.
#include "kernels/attention_device.h"

namespace llmctl::kn {
namespace {

template <class T>
__global__ void rope_kernel(const T* x, T* y, const int32_t* positions, const float* cos, const float* sin,
                            int64_t heads, int64_t rotated, int64_t half, bool inverse) {
  const int64_t row = blockIdx.x, angle = positions[row] * half;
  for (int64_t n = threadIdx.x; n < heads * half; n += kBlock) {
    const int64_t head = n / half, i = n % half, at = (row * heads + head) * 2 * half + i;
    if (head >= rotated) {
      if (x != y) y[at] = x[at], y[at + half] = x[at + half];
      continue;
    }
    const float a = widen(x[at]), b = widen(x[at + half]), c = cos[angle + i];
    const float s = inverse ? 0.0f - sin[angle + i] : sin[angle + i];
    put(y + at, a * c - b * s);
    put(y + at + half, b * c + a * s);
  }
}

template <class T>
void rotate(const Rope& r, cudaStream_t stream) {
  rope_kernel<T><<<static_cast<unsigned>(r.x.dim[0]), kBlock, 0, stream>>>(
      r.x.as<T>(), r.y.as<T>(), r.positions.as<int32_t>(), r.cos.as<float>(), r.sin.as<float>(), r.x.dim[1],
      r.rotated, r.x.dim[2] / 2, r.inverse);
}

}  // namespace

void launch(Cuda, const Rope& r, const Exec& ex) {
  if (r.x.dim[0] == 0) return;
  const auto stream = static_cast<cudaStream_t>(ex.stream);
  r.x.dtype == DType::f32 ? rotate<float>(r, stream) : rotate<bf16_t>(r, stream);
}

}  // namespace llmctl::kn
