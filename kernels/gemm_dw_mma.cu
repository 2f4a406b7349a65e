// SPDX-License-Identifier: Apache-2.0
// GemmDw on tensor cores: a block is 128 x 128 elements of dW, 32 tokens of both operands a step, which
// ldmatrix turns. Steps restart at every sequence, whose last one is filled with zeros. Not yet run on a GPU.
#include "kernels/fixed.h"
#include "kernels/gemm_device.h"
#include "kernels/gemm_mma.h"
#include "kernels/mma_device.h"

namespace llmctl::kn {
namespace {

constexpr int kTile = 128, kTokens = 32, kStages = 4, kThreads = 256;
constexpr int kRow = kTile + 8;  // of a token in shared memory: eight rows of a matrix in eight banks
constexpr int kOperand = kTokens * kRow, kStage = 2 * kOperand;
constexpr int kBytes = kStages * kStage * 2;
constexpr int kTall = 4, kWide = 4;  // MMAs of a warp: 64 rows of dW, 32 columns; warps stand 2 x 4

struct Problem {
  const bf16_t *dy, *x;
  int64_t tokens, seq, n, k;
  int64_t steps;  // of kTokens, of all sequences
  float* chain;
  bool resume, pause, only;
  View grad;
  float limit;
  int32_t* overflow;
};

// Columns [first, first + kTile) of 32 tokens from `at` of one sequence.
__device__ void fetch(const bf16_t* p, int64_t cols, int64_t first, int64_t begin, int64_t at, int64_t seq, bf16_t* to) {
  for (int i = static_cast<int>(threadIdx.x); i < kTokens * (kTile / 8); i += kThreads) {
    const int t = i / (kTile / 8), piece = i % (kTile / 8) * 8;
    const bool there = at + t < seq && first + piece < cols;
    copy_async16(to + t * kRow + piece, there ? p + (begin + at + t) * cols + first + piece : p, there);
  }
}

__device__ void fetch_step(const Problem& g, int64_t step, int64_t n0, int64_t k0, bf16_t* stage) {
  const int64_t each = (g.seq + kTokens - 1) / kTokens, begin = step / each * g.seq, at = step % each * kTokens;
  fetch(g.dy, g.n, n0, begin, at, g.seq, stage);
  fetch(g.x, g.k, k0, begin, at, g.seq, stage + kOperand);
}

__device__ void multiply_stage(const bf16_t* stage, int down, int across, int lane, float* sums) {
  const int tile = lane / 8, r = lane % 8;
#pragma unroll
  for (int block = 0; block < kTokens; block += 16) {
    MmaA a[kTall];
    MmaB b[kWide];
#pragma unroll
    for (int i = 0; i < kTall; ++i)  // tiles: tokens 0 and n 0, n 8, then tokens 8
      load_transposed(a[i].r, stage + (block + tile / 2 * 8 + r) * kRow + (down * kTall + i) * 16 + tile % 2 * 8);
#pragma unroll
    for (int j = 0; j < kWide; j += 2) {  // tiles: tokens 0, 8 of columns j, then of j + 1
      uint32_t both[4];
      load_transposed(both, stage + kOperand + (block + tile % 2 * 8 + r) * kRow + (across * kWide + j + tile / 2) * 8);
      b[j] = {both[0], both[1]};
      b[j + 1] = {both[2], both[3]};
    }
#pragma unroll
    for (int i = 0; i < kTall; ++i)
#pragma unroll
      for (int j = 0; j < kWide; ++j) mma_bf16(sums + (i * kWide + j) * 4, a[i], b[j]);
  }
}

__device__ void finish(const Problem& g, int64_t i, float sum) {
  if (g.pause) {
    g.chain[i] = sum;
  } else if (g.grad.dtype == DType::f32 && !g.only) {
    static_cast<float*>(g.grad.data)[i] += sum;
  } else if (fits_fixed(sum, g.limit)) {
    if (g.only)
      static_cast<float*>(g.grad.data)[i] = rounded_fixed(sum);
    else
      static_cast<int64_t*>(g.grad.data)[i] += to_fixed(sum);
  } else {
    atomicExch(g.overflow, 1);
  }
}

__global__ void __launch_bounds__(kThreads) mma_gemm_dw_kernel(const __grid_constant__ Problem g) {
  KN_DYNAMIC_SHARED(bf16_t, shared);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int down = warp / 4, across = warp % 4;
  const int64_t n0 = static_cast<int64_t>(blockIdx.y) * kTile, k0 = static_cast<int64_t>(blockIdx.x) * kTile;
  float acc[kTall * kWide * 4];
  const auto place = [&](int i, int j, int e, int64_t& n, int64_t& k) {
    n = n0 + (down * kTall + i) * 16 + lane / 4 + e / 2 * 8;
    k = k0 + (across * kWide + j) * 8 + lane % 4 * 2 + e % 2;
    return n < g.n && k < g.k;
  };
#pragma unroll
  for (int i = 0; i < kTall * kWide * 4; ++i) {
    int64_t n, k;
    acc[i] = place(i / 4 / kWide, i / 4 % kWide, i % 4, n, k) && g.resume ? g.chain[n * g.k + k] : 0.0f;
  }
  for (int t = 0; t + 1 < kStages; ++t) {
    if (t < g.steps) fetch_step(g, t, n0, k0, shared + t * kStage);
    copy_commit();
  }
  for (int64_t t = 0; t < g.steps; ++t) {
    copy_wait<kStages - 2>();
    __syncthreads();  // everybody's copies of step t are there, and step t - 1 has been read
    const int64_t later = t + kStages - 1;
    if (later < g.steps) fetch_step(g, later, n0, k0, shared + later % kStages * kStage);
    copy_commit();
    multiply_stage(shared + t % kStages * kStage, down, across, lane, acc);
  }
#pragma unroll
  for (int i = 0; i < kTall * kWide * 4; ++i) {
    int64_t n, k;
    if (place(i / 4 / kWide, i / 4 % kWide, i % 4, n, k)) finish(g, n * g.k + k, acc[i]);
  }
}

}  // namespace

bool mma_takes(const GemmDw& g) {
  return g.dy.dtype == DType::bf16 && g.order == Bf16Order::pair && g.dy.cols() % 8 == 0 && g.x.cols() % 8 == 0 &&
         reinterpret_cast<uintptr_t>(g.dy.data) % 16 == 0 && reinterpret_cast<uintptr_t>(g.x.data) % 16 == 0;
}

void mma_gemm_dw(const GemmDw& g, const Exec& ex) {
  const int64_t tokens = g.dy.rows(), each = (g.seq + kTokens - 1) / kTokens;
  const Problem p{g.dy.as<bf16_t>(), g.x.as<bf16_t>(), tokens, g.seq, g.dy.cols(), g.x.cols(), tokens / g.seq * each,
                  g.chain.as<float>(), g.resume, g.pause, g.only, g.grad, fixed_limit(g.parts), g.overflow.as<int32_t>()};
  cudaFuncSetAttribute(mma_gemm_dw_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  const dim3 grid(blocks_of(p.k, kTile), blocks_of(p.n, kTile));
  mma_gemm_dw_kernel<<<grid, kThreads, kBytes, static_cast<cudaStream_t>(ex.stream)>>>(p);
}

}  // namespace llmctl::kn
