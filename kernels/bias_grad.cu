// SPDX-License-Identifier: Apache-2.0
// BiasGrad on CUDA: a thread per column. Unverified: not yet run on a GPU.
#include "kernels/fixed.h"
#include "kernels/gemm_device.h"

namespace llmctl::kn {
namespace {

template <class T>
__global__ void bias_grad_kernel(const T* dy, int64_t tokens, int64_t n, View grad, float limit, int32_t* overflow,
                                 float* chain, bool resume, bool pause) {
  const int64_t c = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (c >= n) return;
  float sum = resume ? chain[c] : 0.0f;
  for (int64_t t = 0; t < tokens; ++t) sum = sum + widened(dy[t * n + c]);
  if (pause)
    chain[c] = sum;
  else if (grad.dtype == DType::f32)
    static_cast<float*>(grad.data)[c] += sum;
  else if (fits_fixed(sum, limit))
    static_cast<int64_t*>(grad.data)[c] += to_fixed(sum);
  else
    atomicExch(overflow, 1);
}

template <class T>
void sum_columns(const BiasGrad& op, cudaStream_t stream) {
  bias_grad_kernel<T><<<blocks_of(op.dy.cols(), 128), 128, 0, stream>>>(
      op.dy.as<T>(), op.dy.rows(), op.dy.cols(), op.grad, fixed_limit(op.parts), op.overflow.as<int32_t>(),
      op.chain.as<float>(), op.resume, op.pause);
}

}  // namespace

void launch(Cuda, const BiasGrad& op, const Exec& ex) {
  const auto stream = static_cast<cudaStream_t>(ex.stream);
  op.dy.dtype == DType::f32 ? sum_columns<float>(op, stream) : sum_columns<bf16_t>(op, stream);
}

}  // namespace llmctl::kn
