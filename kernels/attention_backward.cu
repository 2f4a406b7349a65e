// SPDX-License-Identifier: Apache-2.0
// AttnBwd on CUDA, plainly and without atomics: one block per query row and head for dQ, one per key
// row and query head for dK and dV, then the tree over the group; in chunks one per term and KV head. Orders
// are those of attention.h; where tensor cores may be used, dQ, dK and dV are attention_backward_mma.cu's, but
// not in chunks.
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

// p and ds of one query row and one key row (of kv, if there is one), rounded as the products take them.
template <class T>
__device__ Weights weights(const BackwardArgs& a, int64_t query, int64_t key, int64_t head) {
  const int64_t kv_head = head / (a.heads / a.kv_heads), row = query * a.heads + head;
  const T* x = static_cast<const T*>(a.qkv);
  const T *q = x + a.at(query, head), *k = a.key<T>(key, kv_head), *v = k + a.kv_heads * a.dim;
  const T* g = static_cast<const T*>(a.dout) + row * a.dim;
  const float s = chain<T>(
      0.0f, a.dim, [&](int64_t i) { return widen(q[i]); }, [&](int64_t i) { return widen(k[i]); });
  const float dp = chain<T>(
      0.0f, a.dim, [&](int64_t i) { return widen(g[i]); }, [&](int64_t i) { return widen(v[i]); });
  const float p = math::exp(s * a.scale - a.lse[row]);
  return {rounded<T>(p), rounded<T>(p * (dp - a.delta[row]) * a.scale)};
}

// The sequence whose queries hold this row, or whose terms this one, in *found (shared memory), -1 if none.
__device__ inline void find_rows(const BackwardArgs& a, int64_t row, bool term, int* found) {
  if (threadIdx.x == 0) *found = -1;
  __syncthreads();
  for (int64_t s = threadIdx.x; s < a.sequence_count; s += blockDim.x) {
    const ChunkSequence seq = a.sequence(s);
    const int64_t first = term ? seq.first_term : seq.first_row, count = term ? seq.keys : seq.queries;
    if (row >= first && row < first + count) *found = static_cast<int>(s);
  }
  __syncthreads();
}

template <class T>
__global__ void dq_kernel(BackwardArgs a) {
  __shared__ float ds[kBlock];
  __shared__ int found;
  const int64_t row = blockIdx.x, head = blockIdx.y, i = threadIdx.x, kv_head = head / (a.heads / a.kv_heads);
  find_rows(a, row, false, &found);
  if (found < 0) return;
  const ChunkSequence seq = a.sequence(found);
  const int64_t first = seq.first_key, limit = row - seq.first_row + seq.keys - seq.queries + 1;
  float dq = 0.0f;
  for (int64_t key = 0; key < limit; key += kBlock) {
    const int64_t n = limit - key < kBlock ? limit - key : kBlock;
    __syncthreads();
    if (i < n) ds[i] = weights<T>(a, row, first + key + i, head).ds;
    __syncthreads();
    if (i < a.dim) {
      const T* k = a.key<T>(first + key, kv_head) + i;
      dq = chain<T>(
          dq, n, [&](int64_t j) { return ds[j]; },
          [&](int64_t j) { return widen(k[j * a.key_stride()]); });
    }
  }
  if (i < a.dim) put(static_cast<T*>(a.dqkv) + a.at(row, head) + i, dq + 0.0f);
}

struct KeySums {
  float dk, dv;
};

// One element of dK and of dV of key `own` of a sequence, of one query head.
template <class T>
__device__ KeySums key_sums(const BackwardArgs& a, const ChunkSequence& seq, int64_t own, int64_t head) {
  __shared__ float p[kBlock], ds[kBlock];
  const int64_t i = threadIdx.x, sees = own - (seq.keys - seq.queries);  // the first query that sees it
  float dk = 0.0f, dv = 0.0f;
  // Pairs of queries count from the document's start, or the chunk's.
  for (int64_t query = sees > 0 ? sees / 2 * 2 : 0; query < seq.queries; query += kBlock) {
    const int64_t n = seq.queries - query < kBlock ? seq.queries - query : kBlock;
    __syncthreads();
    if (i < n) {
      Weights w{0.0f, 0.0f};
      if (query + i >= sees) w = weights<T>(a, seq.first_row + query + i, seq.first_key + own, head);
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
  return {dk, dv};
}

template <class T>
__global__ void dkv_kernel(BackwardArgs a) {
  __shared__ int found;
  const int64_t row = blockIdx.x, head = blockIdx.y, i = threadIdx.x;
  find_rows(a, row, false, &found);
  if (found < 0) return;
  const ChunkSequence seq = a.sequence(found);
  const KeySums sums = key_sums<T>(a, seq, row - seq.first_row, head);
  if (i >= a.dim) return;
  a.dk[(row * a.heads + head) * a.dim + i] = sums.dk;
  a.dv[(row * a.heads + head) * a.dim + i] = sums.dv;
}

// A term: heads of the group join like the bits of a counter, what is left folds from the right.
template <class T>
__global__ void terms_kernel(BackwardArgs a) {
  __shared__ int found;
  const int64_t term = blockIdx.x, kv_head = blockIdx.y, i = threadIdx.x, group = a.heads / a.kv_heads;
  find_rows(a, term, true, &found);
  if (found < 0) return;
  const ChunkSequence seq = a.sequence(found);
  KeySums level[32];
  int depth = 0;
  const auto merge = [&] {
    --depth;
    level[depth - 1] = {level[depth - 1].dk + level[depth].dk, level[depth - 1].dv + level[depth].dv};
  };
  for (int64_t h = 0; h < group; ++h) {
    level[depth++] = key_sums<T>(a, seq, term - seq.first_term, kv_head * group + h);
    for (int64_t done = h + 1; done % 2 == 0; done /= 2) merge();
  }
  while (depth > 1) merge();
  if (i >= a.dim) return;
  float* to = a.terms + (term * 2 * a.kv_heads + kv_head) * a.dim + i;
  to[0] = level[0].dk + 0.0f;
  to[a.kv_heads * a.dim] = level[0].dv + 0.0f;
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
  if (b.kv) {
    const auto terms = static_cast<unsigned>(b.term_rows), kv_heads = static_cast<unsigned>(b.kv_heads);
    dq_kernel<T><<<dim3(rows, heads), kBlock, 0, stream>>>(b);
    terms_kernel<T><<<dim3(terms, kv_heads), kBlock, 0, stream>>>(b);
    return;
  }
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
  BackwardArgs b{};
  b.qkv = a.qkv.data, b.out = a.out.data, b.dout = a.dout.data, b.dqkv = a.dqkv.data;
  b.sequences = a.sequences.as<Sequence>(), b.lse = a.lse.as<float>();
  b.kv = a.kv.data, b.chunks = a.sequences.as<ChunkSequence>(), b.terms = a.terms.as<float>();
  b.term_rows = a.kv ? a.terms.size() / (2 * a.kv_heads * a.qkv.dim[2]) : 0;
  b.sequence_count = a.sequences.dim[0], b.tokens = a.qkv.dim[0], b.heads = a.heads, b.kv_heads = a.kv_heads;
  b.dim = a.qkv.dim[2], b.scale = a.scale;
  b.delta = a.work.as<float>();  // three of the parts that the CPU body keeps there, the first alone in chunks
  b.dk = b.delta + (b.tokens * b.heads + 15) / 16 * 16;
  b.dv = b.dk + b.tokens * b.heads * b.dim;
  if (b.tokens == 0) return;
  const auto stream = static_cast<cudaStream_t>(ex.stream);
  a.qkv.dtype == DType::f32 ? run_backward<float>(b, false, stream)
                            : run_backward<bf16_t>(b, ex.tensor_cores && mma_takes(a), stream);
}

}  // namespace llmctl::kn
