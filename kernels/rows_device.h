// SPDX-License-Identifier: Apache-2.0
// What the CUDA bodies of row and elementwise ops share: storage types, the 16 lanes of a row as 16
// threads, gradients, launches. The order of additions is rows.h's. Internal to kernels/*.cu.
#pragma once

#include <cuda_runtime.h>

#include "kernels/fixed.h"
#include "kernels/op.h"

namespace llmctl::kn {
namespace {

constexpr int kThreads = 256;
constexpr int kRowLanes = 16, kRowsPerBlock = 8;  // a row is 16 threads, two rows a warp

__device__ inline float widen(float x) {
  return x;
}
__device__ inline float widen(bf16_t x) {
  return __uint_as_float(static_cast<uint32_t>(x) << 16);
}
__device__ inline void put(float* p, float x) {
  *p = x;
}
__device__ inline void put(bf16_t* p, float x) {  // simd.h's round_bf16
  const uint32_t b = __float_as_uint(x);
  if ((b & 0x7f800000u) == 0)
    *p = static_cast<bf16_t>((b >> 31) << 15);
  else if ((b & 0x7fffffffu) > 0x7f800000u)
    *p = static_cast<bf16_t>((b >> 16) | 0x40u);
  else
    *p = static_cast<bf16_t>((b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
}

__device__ inline float grad_value(float g) {
  return g;
}
__device__ inline float grad_value(int64_t g) {
  return from_fixed(g);
}

// Joins a gradient element that no other thread writes.
__device__ inline void add_grad(float* p, float g, float, int32_t*) {
  *p += g;
}
__device__ inline void add_grad(int64_t* p, float g, float limit, int32_t* overflow) {
  if (fits_fixed(g, limit))
    *p += to_fixed(g);
  else
    atomicExch(overflow, 1);
}

// Over the 16 threads of a row, the result in all of them; every thread of the warp takes part.
__device__ inline float row_sum(float x) {  // lanes i and i+8, then +4, +2, +1
  for (int w = 8; w > 0; w /= 2) x += __shfl_down_sync(0xffffffffu, x, w, 16);
  return __shfl_sync(0xffffffffu, x, 0, 16);
}
__device__ inline float row_max(float x) {
  for (int w = 8; w > 0; w /= 2) {
    const float y = __shfl_xor_sync(0xffffffffu, x, w, 16);
    x = x > y ? x : y;
  }
  return x;
}

// Threads past the last row work on it too, so that warps stay whole; `live` says who may store.
struct DeviceRow {
  int64_t row;
  int lane;
  bool live;
};
__device__ inline DeviceRow device_row(int64_t rows) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.y;
  return {r < rows ? r : rows - 1, static_cast<int>(threadIdx.x), r < rows};
}
__device__ inline int64_t global_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

inline dim3 row_threads() {
  return dim3(kRowLanes, kRowsPerBlock);
}
inline unsigned blocks_for(int64_t n, int64_t each) {
  return static_cast<unsigned>((n + each - 1) / each);
}
inline cudaStream_t stream_of(const Exec& ex) {
  return static_cast<cudaStream_t>(ex.stream);
}

// f(pointer to the elements) by dtype, as in rows.h.
template <class F>
void by_dtype(const View& v, F&& f) {
  v.dtype == DType::f32 ? f(static_cast<float*>(v.data)) : f(static_cast<bf16_t*>(v.data));
}
template <class F>
void by_grad(const View& v, F&& f) {
  v.dtype == DType::f32 ? f(static_cast<float*>(v.data)) : f(static_cast<int64_t*>(v.data));
}

}  // namespace
}  // namespace llmctl::kn
