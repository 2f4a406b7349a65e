// SPDX-License-Identifier: Apache-2.0
// Gemm on tensor cores. The panels of 16 columns by pairs of rows are B's fragments as they lie; both
// operands pass through shared memory by asynchronous copies, several steps ahead. A tile is 128 x 128 for
// many rows and 16 x 32 for few, where the weights are what is read. Not yet run on a GPU.
#include "kernels/gemm_device.h"
#include "kernels/gemm_mma.h"
#include "kernels/mma_device.h"

namespace llmctl::kn {
namespace {

constexpr int kDepth = 32;              // of the contraction a step
constexpr int kWords = kDepth / 2;      // pairs
constexpr int kRowWords = kWords + 4;   // of a row of x in shared memory: no two lanes in one bank
constexpr int kPairWords = 16 + 8;      // of a panel's 16 columns, likewise

struct Spans {
  int count, parts;
  Span of[Leaves::kMax][Leaves::kMaxParts];
};
struct Problem {
  const bf16_t* x;
  const uint32_t* w;
  int64_t m, k, n, panels, steps;  // steps: pairs of rows of a panel
  int tiles;                       // steps of kDepth of all spans
  Spans spans;
  View y, bias, residual;
};

// Where in the spans a step is.
struct Cursor {
  int leaf = 0, part = 0;
  int64_t at = 0;
};
__device__ inline void settle(const Spans& s, Cursor& c) {  // past what is empty
  while (c.leaf < s.count && c.at >= s.of[c.leaf][c.part].end) {
    if (++c.part == s.parts) c.part = 0, ++c.leaf;
    if (c.leaf < s.count) c.at = s.of[c.leaf][c.part].begin;
  }
}
__device__ inline Cursor first_step(const Spans& s) {
  Cursor c;
  c.at = s.of[0][0].begin;
  settle(s, c);
  return c;
}
__device__ inline void next_step(const Spans& s, Cursor& c) {
  c.at += kDepth;
  settle(s, c);
}

template <int kRows_, int kPanels_, int kDown_, int kAcross_, int kStages_>
struct Shape {
  static constexpr int kRows = kRows_, kPanels = kPanels_, kDown = kDown_, kAcross = kAcross_, kStages = kStages_;
  static constexpr int kThreads = 32 * kDown * kAcross;
  static constexpr int kTall = kRows / kDown / 16, kWide = kPanels * 16 / kAcross / 8;  // of a warp, in MMAs
  static constexpr int kSums = kTall * kWide * 4;
  static constexpr int kLeft = kRows * kRowWords, kRight = kPanels * kWords * kPairWords;  // words
  static constexpr int kStageWords = kLeft + kRight, kBytes = kStages * kStageWords * 4;
};
using Large = Shape<128, 8, 2, 4, 4>;
using Small = Shape<16, 2, 1, 2, 8>;

// One step of both operands to shared memory; what lies outside is zero.
template <class S>
__device__ void fetch(const Problem& g, const Cursor& c, int64_t row, int64_t panel, uint32_t* stage) {
  const int64_t end = g.spans.of[c.leaf][c.part].end;
  for (int i = static_cast<int>(threadIdx.x); i < S::kRows * 4; i += S::kThreads) {
    const int r = i / 4, piece = i % 4;
    const int64_t from = c.at + piece * 8;
    const bool there = row + r < g.m && from < end;
    copy_async16(stage + r * kRowWords + piece * 4, there ? g.x + (row + r) * g.k + from : g.x, there);
  }
  uint32_t* right = stage + S::kLeft;
  for (int i = static_cast<int>(threadIdx.x); i < S::kPanels * kWords * 4; i += S::kThreads) {
    const int p = i / 4 / kWords, step = i / 4 % kWords, piece = i % 4;
    const bool there = panel + p < g.panels && c.at + 2 * step < end;
    copy_async16(right + (p * kWords + step) * kPairWords + piece * 4,
                 there ? g.w + ((panel + p) * g.steps + c.at / 2 + step) * 16 + piece * 4 : g.w, there);
  }
}

template <class S>
__device__ void multiply_stage(const uint32_t* stage, int down, int across, int lane, float* sums) {
  const uint32_t *left = stage + (down * S::kTall * 16 + lane / 4) * kRowWords + lane % 4, *right = stage + S::kLeft;
#pragma unroll
  for (int block = 0; block < kWords; block += 8) {
    MmaA a[S::kTall];
    MmaB b[S::kWide];
#pragma unroll
    for (int i = 0; i < S::kTall; ++i) {
      const uint32_t* p = left + i * 16 * kRowWords + block;
      a[i] = {p[0], p[8 * kRowWords], p[4], p[8 * kRowWords + 4]};
    }
#pragma unroll
    for (int j = 0; j < S::kWide; ++j) {
      const int column = (across * S::kWide + j) * 8;
      const uint32_t* p = right + (column / 16 * kWords + block + lane % 4) * kPairWords + column % 16 + lane / 4;
      b[j] = {p[0], p[4 * kPairWords]};
    }
#pragma unroll
    for (int i = 0; i < S::kTall; ++i)
#pragma unroll
      for (int j = 0; j < S::kWide; ++j) mma_bf16(sums + (i * S::kWide + j) * 4, a[i], b[j]);
  }
}

// Sums of leaves join as in gemm.cpp. They wait in local memory, which is touched once a leaf.
template <int kSums>
struct Tree {
  float sums[4][kSums];
  int depth = 0;
  __device__ void push(int leaf, float* acc) {
    for (int i = 0; i < kSums; ++i) sums[depth][i] = acc[i], acc[i] = 0.0f;
    ++depth;
    for (int done = leaf + 1; done % 2 == 0; done /= 2) fold();
  }
  __device__ void fold() {
    --depth;
    for (int i = 0; i < kSums; ++i) sums[depth - 1][i] += sums[depth][i];
  }
  __device__ void root(float* acc) {
    while (depth > 1) fold();
    for (int i = 0; i < kSums; ++i) acc[i] = sums[0][i];
  }
};

template <class S, bool kLeaves>
__global__ void __launch_bounds__(S::kThreads) mma_gemm_kernel(const __grid_constant__ Problem g) {
  KN_DYNAMIC_SHARED(uint32_t, shared);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int down = warp / S::kAcross, across = warp % S::kAcross;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * S::kRows, panel = static_cast<int64_t>(blockIdx.y) * S::kPanels;
  Cursor ahead = first_step(g.spans), here = ahead;
  float acc[S::kSums] = {};
  Tree<kLeaves ? S::kSums : 1> tree;
  for (int t = 0; t + 1 < S::kStages; ++t) {
    if (t < g.tiles) fetch<S>(g, ahead, row, panel, shared + t * S::kStageWords), next_step(g.spans, ahead);
    copy_commit();
  }
  for (int t = 0; t < g.tiles; ++t) {
    copy_wait<S::kStages - 2>();
    __syncthreads();  // everybody's copies of step t are there, and step t - 1 has been read
    const int later = t + S::kStages - 1;
    if (later < g.tiles)
      fetch<S>(g, ahead, row, panel, shared + later % S::kStages * S::kStageWords), next_step(g.spans, ahead);
    copy_commit();
    multiply_stage<S>(shared + t % S::kStages * S::kStageWords, down, across, lane, acc);
    if constexpr (kLeaves) {
      const int leaf = here.leaf;
      next_step(g.spans, here);
      if (here.leaf != leaf) tree.push(leaf, acc);
    }
  }
  if constexpr (kLeaves) tree.root(acc);
#pragma unroll
  for (int i = 0; i < S::kTall; ++i)
#pragma unroll
    for (int j = 0; j < S::kWide; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int64_t r = row + (down * S::kTall + i) * 16 + lane / 4 + e / 2 * 8;
        const int64_t c = panel * 16 + (across * S::kWide + j) * 8 + lane % 4 * 2 + e % 2;
        if (r < g.m && c < g.n) write_sum(g.y, g.bias, g.residual, g.n, r, c, acc[(i * S::kWide + j) * 4 + e]);
      }
}

template <class S, bool kLeaves>
void start(const Problem& p, cudaStream_t stream) {
  cudaFuncSetAttribute(mma_gemm_kernel<S, kLeaves>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kBytes);
  const dim3 grid(blocks_of(p.m, S::kRows), blocks_of(p.panels, S::kPanels));
  mma_gemm_kernel<S, kLeaves><<<grid, S::kThreads, S::kBytes, stream>>>(p);
}

constexpr int64_t kFewRows = 32;  // below, weights are read once by many small blocks

}  // namespace

bool mma_takes(const Gemm& g) {
  if (g.x.dtype != DType::bf16 || g.order != Bf16Order::pair) return false;
  for (int p = 0; p < g.leaves.parts; ++p)
    if (g.leaves.width[p] % 8 != 0) return false;
  return reinterpret_cast<uintptr_t>(g.x.data) % 16 == 0 && reinterpret_cast<uintptr_t>(g.w.data) % 16 == 0;
}

void mma_gemm(const Gemm& g, const Exec& ex) {
  const int64_t k = g.x.cols();
  Problem p{g.x.as<bf16_t>(), static_cast<const uint32_t*>(g.w.data), g.x.rows(), k, g.n, (g.n + 15) / 16,
            (k + 31) / 32 * 16, 0, {}, g.y, g.bias, g.accumulate ? g.y : g.residual};
  p.spans.count = g.leaves.count;
  p.spans.parts = g.leaves.parts;
  for (int l = 0; l < g.leaves.count; ++l)
    for (int i = 0; i < g.leaves.parts; ++i) {
      const Span s = p.spans.of[l][i] = g.leaves.span(l, i);
      p.tiles += static_cast<int>((s.end - s.begin + kDepth - 1) / kDepth);
    }
  const auto stream = static_cast<cudaStream_t>(ex.stream);
  const bool few = p.m <= kFewRows, tree = g.leaves.count > 1;
  if (few)
    tree ? start<Small, true>(p, stream) : start<Small, false>(p, stream);
  else
    tree ? start<Large, true>(p, stream) : start<Large, false>(p, stream);
}

}  // namespace llmctl::kn
