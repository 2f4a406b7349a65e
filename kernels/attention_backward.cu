// SPDX-License-Identifier: Apache-2.0
// AttnBwd on CUDA, plainly and without atomics: one block per query row and head for dQ, one per key
// row and query head for dK and dV, then the tree over the group. Orders are those of attention.h; where
// tensor cores may be used, dQ, dK and dV are attention_backward_mma.cu's.
// Not yet run on a GPU.
#include "kernels/attention_mma.h"

namespace llmctl::kn {
namespace {

// Sixteen threads a row.
template <class T>
__global__ void delta_kernel(BackwardArgs a) {
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * kBlock + threadIdx.x) / 16;
  float sum = 0.0f;
  if (row < a.tokens * a.heads)
    for (int64_t i = threadIdx.x % 16; i < a.dim; i += 16)
      sum = fmaf(widen(static_cast<const T*>(a.dout)[row * a.dim + i]),
                 widen(static_cast<const T*>(a.out)[row * a.dim + i]), sum);
  sum = sum16_lanes(sum);
  if (threadIdx.x % 16 == 0 && row < a.tokens * a.heads) a.delta[row] = sum;
}

struct Weights {
  float p, ds;
};

// p and ds of one query row and one key row, rounded as the products take them.
template <class T>
__device__ Weights weights(const BackwardArgs& a, int64_t query, int64_t key, int64_t head) {
  const int64_t kv_head = head / (a.heads / a.kv_heads), row = query * a.heads + head;
  const T* x = static_cast<const T*>(a.qkv);
  const T *q = x + a.at(query, head), *k = x + a.at(key, a.heads + kv_head);
  const T *v = x + a.at(key, a.heads + a.kv_heads + kv_head),
          *g = static_cast<const T*>(a.dout) + row * a.dim;
  const float s = chain<T>(
      0.0f, a.dim, [&](int64_t i) { return widen(q[i]); }, [&](int64_t i) { return widen(k[i]); });
  const float dp = chain<T>(
      0.0f, a.dim, [&](int64_t i) { return widen(g[i]); }, [&](int64_t i) { return widen(v[i]); });
  const float p = math::exp(s * a.scale - a.lse[row]);
  return {rounded<T>(p), rounded<T>(p * (dp - a.delta[row]) * a.scale)};
}

template <class T>
__global__ void dq_kernel(BackwardArgs a) {
  __shared__ float ds[kBlock];
  __shared__ int found;
  const int64_t row = blockIdx.x, head = blockIdx.y, i = threadIdx.x, kv_head = head / (a.heads / a.kv_heads);
  find_sequence(a.sequences, a.sequence_count, row, &found);
  if (found < 0) return;
  const int64_t first = a.sequences[found].first_row, limit = row - first + 1;
  float dq = 0.0f;
  for (int64_t key = 0; key < limit; key += kBlock) {
    const int64_t n = limit - key < kBlock ? limit - key : kBlock;
    __syncthreads();
    if (i < n) ds[i] = weights<T>(a, row, first + key + i, head).ds;
    __syncthreads();
    if (i < a.dim) {
      const T* k = static_cast<const T*>(a.qkv) + a.at(first + key, a.heads + kv_head) + i;
      dq = chain<T>(
          dq, n, [&](int64_t j) { return ds[j]; },
          [&](int64_t j) { return widen(k[j * a.total() * a.dim]); });
    }
  }
  if (i < a.dim) put(static_cast<T*>(a.dqkv) + a.at(row, head) + i, dq + 0.0f);
}

template <class T>
__global__ void dkv_kernel(BackwardArgs a) {
  __shared__ float p[kBlock], ds[kBlock];
  __shared__ int found;
  const int64_t row = blockIdx.x, head = blockIdx.y, i = threadIdx.x;
  find_sequence(a.sequences, a.sequence_count, row, &found);
  if (found < 0) return;
  const Sequence seq = a.sequences[found];
  const int64_t own = row - seq.first_row;
  float dk = 0.0f, dv = 0.0f;
  // Pairs of queries count from the document's start.
  for (int64_t query = own / 2 * 2; query < seq.queries; query += kBlock) {
    const int64_t n = seq.queries - query < kBlock ? seq.queries - query : kBlock;
    __syncthreads();
    if (i < n) {
      Weights w{0.0f, 0.0f};
      if (query + i >= own) w = weights<T>(a, seq.first_row + query + i, row, head);
      p[i] = w.p, ds[i] = w.ds;
    }
    __syncthreads();
    if (i < a.dim) {
      const int64_t top = seq.first_row + query;
      const T* q = static_cast<const T*>(a.qkv) + a.at(top, head) + i;
      const T* g = static_cast<const T*>(a.dout) + (top * a.heads + head) * a.dim + i;
      dk = chain<T>(
          dk, n, [&](int64_t j) { return ds[j]; },
          [&](int64_t j) { return widen(q[j * a.total() * a.dim]); });
      dv = chain<T>(
          dv, n, [&](int64_t j) { return p[j]; }, [&](int64_t j) { return widen(g[j * a.heads * a.dim]); });
    }
  }
  if (i >= a.dim) return;
  a.dk[(row * a.heads + head) * a.dim + i] = dk;
  a.dv[(row * a.heads + head) * a.dim + i] = dv;
}

// The balanced tree over the heads of a group, in place; x is one element of the first head's row.
__device__ float join_group(float* x, int64_t group, int64_t dim) {
  for (int64_t width = 1; width < group; width *= 2)
    for (int64_t h = 0; h + 2 * width <= group; h += 2 * width) x[h * dim] += x[(h + width) * dim];
  for (int64_t left = group & (group - 1); left > 0; left &= left - 1)
    x[(left - (left & -left)) * dim] += x[left * dim];
  return x[0] + 0.0f;
}

template <class T>
__global__ void join_kernel(BackwardArgs a) {
  __shared__ int found;
  const int64_t row = blockIdx.x, kv_head = blockIdx.y, i = threadIdx.x, group = a.heads / a.kv_heads;
  find_sequence(a.sequences, a.sequence_count, row, &found);
  if (found < 0 || i >= a.dim) return;
  const int64_t from = (row * a.heads + kv_head * group) * a.dim + i;
  T* to = static_cast<T*>(a.dqkv) + i;
  put(to + a.at(row, a.heads + kv_head), join_group(a.dk + from, group, a.dim));
  put(to + a.at(row, a.heads + a.kv_heads + kv_head), join_group(a.dv + from, group, a.dim));
}

template <class T>
void run_backward(const BackwardArgs& b, bool tensor_cores, cudaStream_t stream) {
  const auto rows = static_cast<unsigned>(b.tokens), heads = static_cast<unsigned>(b.heads);
  const auto delta_blocks = static_cast<unsigned>((b.tokens * b.heads * 16 + kBlock - 1) / kBlock);
  delta_kernel<T><<<delta_blocks, kBlock, 0, stream>>>(b);
  if (tensor_cores) {
    mma_attention_backward(b, stream);
  } else {
    dq_kernel<T><<<dim3(rows, heads), kBlock, 0, stream>>>(b);
    dkv_kernel<T><<<dim3(rows, heads), kBlock, 0, stream>>>(b);
  }
  join_kernel<T><<<dim3(rows, static_cast<unsigned>(b.kv_heads)), kBlock, 0, stream>>>(b);
}

}  // namespace

void launch(Cuda, const AttnBwd& a, const Exec& ex) {
  check_order(a.order, a.qkv.dtype, "attn_bwd");
  check(!a.kv, Code::unsupported, "[attn_bwd] chunks of sequences are not there on a GPU yet: unit.chunks 1, or --device cpu");
  BackwardArgs b{};
  b.qkv = a.qkv.data, b.out = a.out.data, b.dout = a.dout.data, b.dqkv = a.dqkv.data;
  b.sequences = a.sequences.as<Sequence>(), b.lse = a.lse.as<float>();
  b.sequence_count = a.sequences.dim[0], b.tokens = a.qkv.dim[0], b.heads = a.heads, b.kv_heads = a.kv_heads;
  b.dim = a.qkv.dim[2], b.scale = a.scale;
  b.delta = a.work.as<float>();  // three of the parts that the CPU body keeps there
  b.dk = b.delta + (b.tokens * b.heads + 15) / 16 * 16;
  b.dv = b.dk + b.tokens * b.heads * b.dim;
  if (b.tokens == 0) return;
  const auto stream = static_cast<cudaStream_t>(ex.stream);
  a.qkv.dtype == DType::f32 ? run_backward<float>(b, false, stream)
                            : run_backward<bf16_t>(b, ex.tensor_cores && mma_takes(a), stream);
}

}  // namespace llmctl::kn
