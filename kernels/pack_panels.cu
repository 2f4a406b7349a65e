// SPDX-License-Identifier: Apache-2.0
// PackPanels on CUDA: a thread per element of dst. Unverified: not yet run on a GPU.
#include "kernels/gemm_device.h"

namespace llmctl::kn {
namespace {

__device__ inline void convert(float* to, float v) { *to = v; }
__device__ inline void convert(bf16_t* to, float v) { *to = rounded_bf16(v); }
__device__ inline void convert(bf16_t* to, bf16_t v) { *to = v; }

template <class S, class D>
__global__ void pack_kernel(const S* src, int64_t rows, int64_t cols, bool transpose, D* dst, int64_t size) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (i >= size) return;
  constexpr int64_t per = 4 / sizeof(D);
  const int64_t columns = transpose ? cols : rows, depth = transpose ? rows : cols;
  const int64_t steps = per == 2 ? (depth + 31) / 32 * 16 : depth, s = i / per / 16 % steps;
  const int64_t column = i / per / 16 / steps * 16 + i / per % 16, d = s * per + i % per;
  if (column < columns && d < depth)
    convert(dst + i, src[transpose ? d * cols + column : column * cols + d]);
  else
    dst[i] = 0;
}

template <class S, class D>
void pack(const PackPanels& op, const View& dst, bool transpose, cudaStream_t stream) {
  pack_kernel<S, D><<<blocks_of(dst.size(), 256), 256, 0, stream>>>(
      op.src.as<S>(), op.src.rows(), op.src.cols(), transpose, dst.as<D>(), dst.size());
}

}  // namespace

void launch(Cuda, const PackPanels& op, const Exec& ex) {
  const auto stream = static_cast<cudaStream_t>(ex.stream);
  for (bool transpose : {false, true}) {
    const View& dst = transpose ? op.panels_t : op.panels;
    if (!dst) continue;
    if (op.src.dtype == DType::bf16)
      pack<bf16_t, bf16_t>(op, dst, transpose, stream);
    else if (dst.dtype == DType::bf16)
      pack<float, bf16_t>(op, dst, transpose, stream);
    else
      pack<float, float>(op, dst, transpose, stream);
  }
}

}  // namespace llmctl::kn
