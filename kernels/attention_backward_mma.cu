// SPDX-License-Identifier: Apache-2.0
// dQ, dK and dV on tensor cores, without atomics: a block of dQ takes 64 queries of a head and walks the
// keys, one of dK and dV takes 64 keys of a query head and walks the queries, both in blocks of 32 from the
// document's start, so the order is fixed. Scores are made twice, which is the price. A block that is masked
// for a row adds zeros to it. Not yet run on a GPU.
#include "kernels/attention_mma.h"
#include "kernels/attention_tiles_device.h"

namespace llmctl::kn {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps, kRows = 16 * kWarps;  // rows that stay
constexpr int kWalk = 32, kTiles = kWalk / 8;                          // rows of a step of those that pass by

template <int kDim>
struct Shape {
  static constexpr int kRow = kDim / 2 + 4;  // words of a row in shared memory: eight rows in eight banks
  static constexpr int kStep = kWalk * kRow, kStay = kRows * kRow;
  static constexpr int kQueryBytes = 2 * 2 * kStep * 4;               // dQ: two steps of K and V
  static constexpr int kKeyBytes = (2 * kStay + 2 * 2 * kStep) * 4;   // dK, dV: K and V, two steps of Q and dO
};

// Rows [first, first + count) of a head to shared memory, zeros from `end` on. Rows lie `stride` elements apart.
template <int kDim>
__device__ void fetch(const bf16_t* p, int64_t stride, int64_t first, int count, int64_t end, uint32_t* to) {
  constexpr int kPieces = kDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < count * kPieces; i += kThreads) {
    const int r = i / kPieces, piece = i % kPieces;
    const bool there = first + r < end;
    copy_async16(to + r * Shape<kDim>::kRow + piece * 4, there ? p + (first + r) * stride + piece * 8 : p, there);
  }
}

// Tile j of the products of A's 16 rows with 32 rows in shared memory, over D: both as they lie.
template <int kDim, class Left>
__device__ void multiply_rows(float* c, const uint32_t* rows, int j, int lane, Left&& left) {
  const uint32_t* p = rows + (j * 8 + lane / 4) * Shape<kDim>::kRow + lane % 4;
#pragma unroll
  for (int d = 0; d < kDim / 16; ++d) mma_bf16(c, left(d), MmaB{{p[d * 8], p[d * 8 + 4]}});
}

// sums (16, D) += A (16, 32) rows (32, D), A being the tiles of `weights`, rounded.
template <int kDim>
__device__ void multiply_walk(float* sums, const float* weights, const uint32_t* rows, int lane) {
  const int tile = lane / 8, r = lane % 8;
  const auto* halves = reinterpret_cast<const bf16_t*>(rows);
#pragma unroll
  for (int block = 0; block < kWalk / 16; ++block) {
    const float* w = weights + block * 8;
    const MmaA a{{packed(w[0], w[1]), packed(w[2], w[3]), packed(w[4], w[5]), packed(w[6], w[7])}};
#pragma unroll
    for (int t = 0; t < kDim / 8; t += 2) {  // tiles: rows 0, 8 of columns t, then of t + 1
      uint32_t both[4];
      load_transposed(both, halves + (block * 16 + tile % 2 * 8 + r) * 2 * Shape<kDim>::kRow + (t + tile / 2) * 8);
      mma_bf16(sums + t * 4, a, MmaB{{both[0], both[1]}});
      mma_bf16(sums + t * 4 + 4, a, MmaB{{both[2], both[3]}});
    }
  }
}

// A's fragment of 16 rows in shared memory at block d of D.
template <int kDim>
__device__ inline MmaA left_rows(const uint32_t* rows, int d, int lane) {
  const uint32_t* p = rows + lane / 4 * Shape<kDim>::kRow + lane % 4 + d * 8;
  return {{p[0], p[8 * Shape<kDim>::kRow], p[4], p[8 * Shape<kDim>::kRow + 4]}};
}

template <int kDim>
__global__ void __launch_bounds__(kThreads) mma_dq_kernel(const __grid_constant__ BackwardArgs a) {
  KN_DYNAMIC_SHARED(uint32_t, shared);
  __shared__ Tile tile;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
  find_tile(a.sequences, a.sequence_count, 1, kRows, &tile);
  if (tile.sequence < 0) return;
  const Sequence seq = a.sequences[tile.sequence];
  const int64_t first_row = static_cast<int64_t>(tile.index) * kRows, count = seq.queries;
  const int64_t keys = first_row + kRows < count ? first_row + kRows : count;
  const bf16_t* x = static_cast<const bf16_t*>(a.qkv);
  const int64_t stride = a.total() * kDim;
  const bf16_t *k = x + a.at(seq.first_row, a.heads + kv_head), *v = x + a.at(seq.first_row, a.heads + a.kv_heads + kv_head);

  MmaA q[kDim / 16], g[kDim / 16];
  int64_t query[2];
  float lse[2], delta[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    query[h] = first_row + warp * 16 + lane / 4 + h * 8;
    const int64_t row = seq.first_row + (query[h] < count ? query[h] : count - 1);
    if (query[h] >= count) query[h] = -1;  // sees no key
    lse[h] = a.lse[row * a.heads + head], delta[h] = a.delta[row * a.heads + head];
    const bf16_t *from = x + a.at(row, head), *dout = static_cast<const bf16_t*>(a.dout) + (row * a.heads + head) * kDim;
#pragma unroll
    for (int d = 0; d < kDim / 16; ++d)
      for (int i = h; i < 4; i += 2) {
        const int at = d * 16 + lane % 4 * 2 + i / 2 * 8;
        q[d].r[i] = *reinterpret_cast<const uint32_t*>(from + at);
        g[d].r[i] = *reinterpret_cast<const uint32_t*>(dout + at);
      }
  }
  float dq[kDim / 2] = {};
  const auto fetch_step = [&](int64_t first, int64_t turn) {
    uint32_t* stage = shared + turn % 2 * 2 * Shape<kDim>::kStep;
    fetch<kDim>(k, stride, first, kWalk, count, stage);
    fetch<kDim>(v, stride, first, kWalk, count, stage + Shape<kDim>::kStep);
  };
  fetch_step(0, 0);
  copy_commit();
  for (int64_t first = 0, turn = 0; first < keys; first += kWalk, ++turn) {
    if (first + kWalk < keys) fetch_step(first + kWalk, turn + 1);
    copy_commit();
    copy_wait<1>();
    __syncthreads();
    const uint32_t *key_rows = shared + turn % 2 * 2 * Shape<kDim>::kStep, *value_rows = key_rows + Shape<kDim>::kStep;
    float s[kTiles * 4] = {}, dp[kTiles * 4] = {};
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      multiply_rows<kDim>(s + j * 4, key_rows, j, lane, [&](int d) { return q[d]; });
      multiply_rows<kDim>(dp + j * 4, value_rows, j, lane, [&](int d) { return g[d]; });
    }
#pragma unroll
    for (int i = 0; i < kTiles * 4; ++i) {
      const int h = i % 4 / 2;
      const bool seen = first + i / 4 * 8 + lane % 4 * 2 + i % 2 <= query[h];
      s[i] = seen ? math::exp(s[i] * a.scale - lse[h]) * (dp[i] - delta[h]) * a.scale : 0.0f;
    }
    multiply_walk<kDim>(dq, s, key_rows, lane);
    __syncthreads();
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (query[h] < 0) continue;
    bf16_t* to = static_cast<bf16_t*>(a.dqkv) + a.at(seq.first_row + query[h], head) + lane % 4 * 2;
#pragma unroll
    for (int t = 0; t < kDim / 8; ++t)
      *reinterpret_cast<uint32_t*>(to + t * 8) = packed(dq[t * 4 + h * 2] + 0.0f, dq[t * 4 + h * 2 + 1] + 0.0f);
  }
}

template <int kDim>
__global__ void __launch_bounds__(kThreads) mma_dkv_kernel(const __grid_constant__ BackwardArgs a) {
  KN_DYNAMIC_SHARED(uint32_t, shared);
  __shared__ Tile tile;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
  find_tile(a.sequences, a.sequence_count, 1, kRows, &tile);
  if (tile.sequence < 0) return;
  const Sequence seq = a.sequences[tile.sequence];
  const int64_t first_key = static_cast<int64_t>(tile.index) * kRows, count = seq.queries;
  const bf16_t* x = static_cast<const bf16_t*>(a.qkv);
  const int64_t stride = a.total() * kDim;
  const bf16_t *q = x + a.at(seq.first_row, head),
               *g = static_cast<const bf16_t*>(a.dout) + (seq.first_row * a.heads + head) * kDim;
  const float *lse = a.lse + seq.first_row * a.heads + head, *delta = a.delta + seq.first_row * a.heads + head;

  uint32_t *keys = shared, *values = keys + Shape<kDim>::kStay, *steps = values + Shape<kDim>::kStay;
  fetch<kDim>(x + a.at(seq.first_row, a.heads + kv_head), stride, first_key, kRows, count, keys);
  fetch<kDim>(x + a.at(seq.first_row, a.heads + a.kv_heads + kv_head), stride, first_key, kRows, count, values);
  const auto fetch_step = [&](int64_t first, int64_t turn) {
    uint32_t* stage = steps + turn % 2 * 2 * Shape<kDim>::kStep;
    fetch<kDim>(q, stride, first, kWalk, count, stage);
    fetch<kDim>(g, a.heads * kDim, first, kWalk, count, stage + Shape<kDim>::kStep);
  };
  fetch_step(first_key, 0);
  copy_commit();
  const uint32_t *my_keys = keys + warp * 16 * Shape<kDim>::kRow, *my_values = values + warp * 16 * Shape<kDim>::kRow;
  const int64_t key = first_key + warp * 16 + lane / 4;  // and 8 further on
  float dk[kDim / 2] = {}, dv[kDim / 2] = {};
  for (int64_t first = first_key, turn = 0; first < count; first += kWalk, ++turn) {
    if (first + kWalk < count) fetch_step(first + kWalk, turn + 1);
    copy_commit();
    copy_wait<1>();
    __syncthreads();
    const uint32_t *query_rows = steps + turn % 2 * 2 * Shape<kDim>::kStep, *gradient_rows = query_rows + Shape<kDim>::kStep;
    float p[kTiles * 4] = {}, ds[kTiles * 4] = {};  // rows are keys, columns queries
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      multiply_rows<kDim>(p + j * 4, query_rows, j, lane, [&](int d) { return left_rows<kDim>(my_keys, d, lane); });
      multiply_rows<kDim>(ds + j * 4, gradient_rows, j, lane, [&](int d) { return left_rows<kDim>(my_values, d, lane); });
    }
#pragma unroll
    for (int i = 0; i < kTiles * 4; ++i) {
      const int64_t query = first + i / 4 * 8 + lane % 4 * 2 + i % 2;
      const bool seen = query < count && query >= key + i % 4 / 2 * 8;
      const int64_t at = query < count ? query * a.heads : 0;
      p[i] = seen ? math::exp(p[i] * a.scale - lse[at]) : 0.0f;
      ds[i] = seen ? p[i] * (ds[i] - delta[at]) * a.scale : 0.0f;
    }
    multiply_walk<kDim>(dv, p, gradient_rows, lane);
    multiply_walk<kDim>(dk, ds, query_rows, lane);
    __syncthreads();
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (key + h * 8 >= count) continue;
    const int64_t to = ((seq.first_row + key + h * 8) * a.heads + head) * kDim + lane % 4 * 2;
#pragma unroll
    for (int t = 0; t < kDim / 8; ++t)
      for (int e = 0; e < 2; ++e) {
        a.dk[to + t * 8 + e] = dk[t * 4 + h * 2 + e];
        a.dv[to + t * 8 + e] = dv[t * 4 + h * 2 + e];
      }
  }
}

template <int kDim>
void start(const BackwardArgs& b, cudaStream_t stream) {
  using S = Shape<kDim>;
  cudaFuncSetAttribute(mma_dq_kernel<kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kQueryBytes);
  cudaFuncSetAttribute(mma_dkv_kernel<kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kKeyBytes);
  const dim3 grid(most_tiles(b.tokens, kRows, b.sequence_count), static_cast<unsigned>(b.heads));
  mma_dq_kernel<kDim><<<grid, kThreads, S::kQueryBytes, stream>>>(b);
  mma_dkv_kernel<kDim><<<grid, kThreads, S::kKeyBytes, stream>>>(b);
}

}  // namespace

bool mma_takes(const AttnBwd& a) {
  const int64_t d = a.qkv.dim[2];
  const auto aligned = [](const View& v) { return reinterpret_cast<uintptr_t>(v.data) % 16 == 0; };
  return a.qkv.dtype == DType::bf16 && a.order == Bf16Order::pair && (d == 32 || d == 64 || d == 96 || d == 128) &&
         aligned(a.qkv) && aligned(a.dout) && aligned(a.dqkv);
}

void mma_attention_backward(const BackwardArgs& b, cudaStream_t stream) {
  b.dim == 32   ? start<32>(b, stream)
  : b.dim == 64 ? start<64>(b, stream)
  : b.dim == 96 ? start<96>(b, stream)
                : start<128>(b, stream);
}

}  // namespace llmctl::kn
