// SPDX-License-Identifier: Apache-2.0
// Gemm on CUDA: a thread owns one output and its chain; 16 steps of both operands at a time pass
// through shared memory: the CPU's order. Where tensor cores may be used, gemm_mma.cu. Unverified: not yet run on a GPU.
#include "kernels/gemm_device.h"
#include "kernels/gemm_mma.h"

namespace llmctl::kn {
namespace {

struct Spans {
  int count, parts;
  Span of[Leaves::kMax][Leaves::kMaxParts];
};

template <class T>
struct Problem {
  const T *x, *w;
  int64_t m, k, n;
  Spans spans;
  View y, bias, residual;
};

// The thread's chain over columns [begin, end) of the contraction. All threads of the block.
template <class T>
__device__ float chain(const Problem<T>& g, Span s, int64_t row, int64_t panel, float acc) {
  __shared__ uint32_t xs[kSide][kSide], ws[kSide][kSide];
  constexpr int64_t per = 4 / sizeof(T);
  const int64_t all = per == 2 ? (g.k + 31) / 32 * 16 : g.k, end = (s.end + per - 1) / per;
  const int tx = static_cast<int>(threadIdx.x), ty = static_cast<int>(threadIdx.y);
  for (int64_t first = s.begin / per; first < end; first += kSide) {
    const int64_t column = (first + tx) * per;
    xs[ty][tx] = row < g.m && column < s.end
                     ? step_bits(g.x + row * g.k + column, 1, column + 1 < s.end) : 0u;
    ws[ty][tx] = first + ty < end
                     ? step_bits(g.w + ((panel * all + first + ty) * 16 + tx) * per, 1, true) : 0u;
    __syncthreads();
    const int steps = end - first < kSide ? static_cast<int>(end - first) : kSide;
    for (int i = 0; i < steps; ++i) acc = step<T>(acc, xs[ty][i], ws[i][tx]);
    __syncthreads();
  }
  return acc;
}

// Leaves join as in gemm.cpp: like the bits of a counter, the rest folded from the right.
template <class T>
__global__ void gemm_kernel(Problem<T> g) {
  const int64_t panel = blockIdx.x, row = blockIdx.y * static_cast<int64_t>(kSide) + threadIdx.y;
  float sums[4];
  int depth = 0;
  for (int leaf = 0; leaf < g.spans.count; ++leaf) {
    bool empty = true;
    float acc = 0;
    for (int part = 0; part < g.spans.parts; ++part) {
      const Span s = g.spans.of[leaf][part];
      if (s.begin == s.end) continue;
      empty = false;
      acc = chain(g, s, row, panel, acc);
    }
    if (empty) continue;
    sums[depth++] = acc;
    for (int done = leaf + 1; done % 2 == 0; done /= 2, --depth) sums[depth - 2] += sums[depth - 1];
  }
  for (; depth > 1; --depth) sums[depth - 2] += sums[depth - 1];
  const int64_t column = panel * 16 + threadIdx.x;
  if (row < g.m && column < g.n) write_sum(g.y, g.bias, g.residual, g.n, row, column, sums[0]);
}

template <class T>
void multiply(const Gemm& g, cudaStream_t stream) {
  Problem<T> p{g.x.as<T>(), g.w.as<T>(), g.x.rows(), g.x.cols(), g.n, {}, g.y, g.bias,
               g.accumulate ? g.y : g.residual};
  p.spans.count = g.leaves.count;
  p.spans.parts = g.leaves.parts;
  for (int l = 0; l < g.leaves.count; ++l)
    for (int i = 0; i < g.leaves.parts; ++i) p.spans.of[l][i] = g.leaves.span(l, i);
  const dim3 grid(blocks_of(g.n, 16), blocks_of(p.m, kSide));
  gemm_kernel<T><<<grid, dim3(kSide, kSide), 0, stream>>>(p);
}

}  // namespace

void launch(Cuda, const Gemm& g, const Exec& ex) {
  check_order(g.order, g.x.dtype, "gemm");
  if (g.x.rows() == 0) return;
  if (ex.tensor_cores && mma_takes(g)) return mma_gemm(g, ex);
  const auto stream = static_cast<cudaStream_t>(ex.stream);
  g.x.dtype == DType::f32 ? multiply<float>(g, stream) : multiply<bf16_t>(g, stream);
}

}  // namespace llmctl::kn
