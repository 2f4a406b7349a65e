// SPDX-License-Identifier: Apache-2.0
// What the CUDA bodies of attention share: storage types, the chains of the contract, and which
// sequence a row belongs to. Internal to kernels/*.cu.
#pragma once

#include <cuda_runtime.h>

#include "kernels/attention.h"
#include "kernels/math.h"
#include "kernels/order_device.h"

namespace llmctl::kn {

struct Sequence {  // one row of AttnFwd::sequences
  int32_t first_row, queries, keys, first_page;
};

struct ChunkSequence {  // one row of AttnBwd::sequences with kv
  int32_t first_row, queries, keys, first_key, first_term, first_work;
};

// What the kernels of AttnBwd take. With kv: chunks, and terms; sequences are ChunkSequence.
struct BackwardArgs {
  const void *qkv, *out, *dout, *kv;
  const Sequence* sequences;
  const ChunkSequence* chunks;
  float* terms;
  const float* lse;
  void* dqkv;
  float *delta, *dk, *dv;  // (T, heads), (T, heads, D) twice
  int64_t sequence_count, tokens, heads, kv_heads, dim, term_rows;
  float scale;
  __host__ __device__ int64_t total() const { return heads + 2 * kv_heads; }
  __host__ __device__ int64_t at(int64_t row, int64_t head) const { return (row * total() + head) * dim; }
  __host__ __device__ ChunkSequence sequence(int64_t s) const {
    if (kv) return chunks[s];
    return {sequences[s].first_row, sequences[s].queries, sequences[s].keys, sequences[s].first_row, 0, 0};
  }
  // K of a row of kv, or of qkv; V is kv_heads heads further on.
  template <class T>
  __host__ __device__ const T* key(int64_t row, int64_t kv_head) const {
    return kv ? static_cast<const T*>(kv) + (row * 2 * kv_heads + kv_head) * dim
              : static_cast<const T*>(qkv) + at(row, heads + kv_head);
  }
  __host__ __device__ int64_t key_stride() const { return (kv ? 2 * kv_heads : total()) * dim; }
};

namespace {

constexpr int kBlock = 256;  // threads: one per key of a segment, and one per element of a head

__device__ inline float widen(float x) {
  return x;
}
__device__ inline float widen(bf16_t x) {
  return __uint_as_float(static_cast<uint32_t>(x) << 16);
}

// Nearest even, denormals to zero, NaN kept quiet: simd.h's round_bf16.
__device__ inline bf16_t narrow(float x) {
  const uint32_t b = __float_as_uint(x);
  if ((b & 0x7f800000u) == 0) return static_cast<bf16_t>((b >> 31) << 15);
  if ((b & 0x7fffffffu) > 0x7f800000u) return static_cast<bf16_t>((b >> 16) | 0x40u);
  return static_cast<bf16_t>((b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
}
__device__ inline void put(float* p, float x) {
  *p = x;
}
__device__ inline void put(bf16_t* p, float x) {
  *p = narrow(x);
}
// A weight as the product sees it.
template <class T>
__device__ inline float rounded(float x) {
  return sizeof(T) == 2 ? widen(narrow(x)) : x;
}

// Goes on with acc over n steps: f32 in order; bf16 by pairs, the odd element first, a missing odd
// element skipped.
template <class T, class A, class B>
__device__ inline float chain(float acc, int64_t n, A a, B b) {
  constexpr int64_t step = 4 / sizeof(T);
  for (int64_t i = 0; i < n; i += step) {
    if (step == 2 && i + 1 < n) acc = fmaf(a(i + 1), b(i + 1), acc);
    acc = fmaf(a(i), b(i), acc);
  }
  return acc;
}

// Lanes i and i+8, then +4, +2, +1 of each group of 16 threads; lane 0 of the group has the sum.
__device__ inline float sum16_lanes(float x) {
  for (int w = 8; w > 0; w /= 2) x += __shfl_down_sync(0xffffffffu, x, w, 16);
  return x;
}

// The sequence whose queries hold this row, in *found (shared memory), -1 if none. All threads.
__device__ inline void find_sequence(const Sequence* sequences, int64_t count, int64_t row, int* found) {
  if (threadIdx.x == 0) *found = -1;
  __syncthreads();
  for (int64_t s = threadIdx.x; s < count; s += blockDim.x)
    if (row >= sequences[s].first_row && row < sequences[s].first_row + sequences[s].queries)
      *found = static_cast<int>(s);
  __syncthreads();
}

}  // namespace
}  // namespace llmctl::kn
