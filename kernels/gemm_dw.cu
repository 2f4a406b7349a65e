// SPDX-License-Identifier: Apache-2.0
// GemmDw on CUDA: a thread owns one element of dW; 16 steps (tokens, or pairs of tokens) of both
// operands pass through shared memory. `work` stays unused. Unverified: not yet run on a GPU.
#include "kernels/fixed.h"
#include "kernels/gemm_device.h"
#include "kernels/gemm_mma.h"

namespace llmctl::kn {
namespace {

template <class T>
struct Problem {
  const T *dy, *x;
  int64_t tokens, seq, n, k;
  float* chain;
  bool resume, pause, only;
  View grad;
  float limit;
  int32_t* overflow;
};

// Step s of a (T,cols) operand at one column: a token, or a pair that does not leave its sequence.
template <class T>
__device__ uint32_t token_step(const T* p, int64_t s, int64_t seq, int64_t cols, int64_t column) {
  constexpr int64_t per = 4 / sizeof(T);
  const int64_t each = (seq + per - 1) / per, inside = s % each * per;
  return step_bits(p + (s / each * seq + inside) * cols + column, cols, inside + 1 < seq);
}

template <class T>
__global__ void gemm_dw_kernel(Problem<T> g) {
  __shared__ uint32_t ys[kSide][kSide], xs[kSide][kSide];
  constexpr int64_t per = 4 / sizeof(T);
  const int64_t steps = g.tokens / g.seq * ((g.seq + per - 1) / per);
  const int tx = static_cast<int>(threadIdx.x), ty = static_cast<int>(threadIdx.y);
  const int64_t k = blockIdx.x * static_cast<int64_t>(kSide) + tx;
  const int64_t n0 = blockIdx.y * static_cast<int64_t>(kSide), n = n0 + ty;
  const bool mine = n < g.n && k < g.k;
  float acc = mine && g.resume ? g.chain[n * g.k + k] : 0.0f;
  for (int64_t first = 0; first < steps; first += kSide) {
    const bool there = first + ty < steps;
    ys[ty][tx] = there && n0 + tx < g.n ? token_step(g.dy, first + ty, g.seq, g.n, n0 + tx) : 0u;
    xs[ty][tx] = there && k < g.k ? token_step(g.x, first + ty, g.seq, g.k, k) : 0u;
    __syncthreads();
    const int count = steps - first < kSide ? static_cast<int>(steps - first) : kSide;
    for (int i = 0; i < count; ++i) acc = step<T>(acc, ys[i][ty], xs[i][tx]);
    __syncthreads();
  }
  if (!mine) return;
  const int64_t i = n * g.k + k;
  if (g.pause) {
    g.chain[i] = acc;
  } else if (g.grad.dtype == DType::f32 && !g.only) {
    static_cast<float*>(g.grad.data)[i] += acc;
  } else if (fits_fixed(acc, g.limit)) {
    if (g.only)
      static_cast<float*>(g.grad.data)[i] = rounded_fixed(acc);
    else
      static_cast<int64_t*>(g.grad.data)[i] += to_fixed(acc);
  } else {
    atomicExch(g.overflow, 1);
  }
}

template <class T>
void gradient(const GemmDw& g, cudaStream_t stream) {
  const Problem<T> p{g.dy.as<T>(), g.x.as<T>(), g.dy.rows(), g.seq, g.dy.cols(), g.x.cols(),
                     g.chain.as<float>(), g.resume, g.pause, g.only, g.grad, fixed_limit(g.parts),
                     g.overflow.as<int32_t>()};
  const dim3 grid(blocks_of(p.k, kSide), blocks_of(p.n, kSide));
  gemm_dw_kernel<T><<<grid, dim3(kSide, kSide), 0, stream>>>(p);
}

}  // namespace

void launch(Cuda, const GemmDw& g, const Exec& ex) {
  check_order(g.order, g.x.dtype, "gemm_dw");
  if (ex.tensor_cores && mma_takes(g)) return mma_gemm_dw(g, ex);
  const auto stream = static_cast<cudaStream_t>(ex.stream);
  g.dy.dtype == DType::f32 ? gradient<float>(g, stream) : gradient<bf16_t>(g, stream);
}

}  // namespace llmctl::kn
