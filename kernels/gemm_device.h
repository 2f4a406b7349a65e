// SPDX-License-Identifier: Apache-2.0
// What the CUDA bodies of the dense products share: one step of a chain, staging through shared
// memory, the epilogue. Internal to kernels/*.cu.
#pragma once

#include <cuda_runtime.h>

#include "kernels/gemm.h"
#include "kernels/order_device.h"

namespace llmctl::kn {
namespace {

constexpr int kSide = 16;  // a block is 16 x 16 threads: one output each, 16 steps staged at a time

__device__ inline float widened(float x) { return x; }
__device__ inline float widened(bf16_t x) { return __uint_as_float(static_cast<uint32_t>(x) << 16); }

// Nearest even, denormals to zero, NaN kept quiet: simd.h's round_bf16.
__device__ inline bf16_t rounded_bf16(float x) {
  const uint32_t b = __float_as_uint(x);
  if ((b & 0x7f800000u) == 0) return static_cast<bf16_t>((b >> 31) << 15);
  if ((b & 0x7fffffffu) > 0x7f800000u) return static_cast<bf16_t>((b >> 16) | 0x40u);
  return static_cast<bf16_t>((b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
}

// A step is 32 bits of each operand: an f32, or a pair of bf16 of which the odd element goes first.
template <class T>
__device__ inline float step(float acc, uint32_t a, uint32_t b) {
  if (sizeof(T) == 4) return fmaf(__uint_as_float(a), __uint_as_float(b), acc);
  acc = fmaf(__uint_as_float(a & 0xffff0000u), __uint_as_float(b & 0xffff0000u), acc);
  return fmaf(__uint_as_float(a << 16), __uint_as_float(b << 16), acc);
}
__device__ inline uint32_t step_bits(const float* p, int64_t, bool) { return __float_as_uint(*p); }
// The second element of the pair lies `apart` further on, if it exists.
__device__ inline uint32_t step_bits(const bf16_t* p, int64_t apart, bool second) {
  return p[0] | (second ? static_cast<uint32_t>(p[apart]) << 16 : 0u);
}

__device__ inline float load_any(const View& v, int64_t i) {
  return v.dtype == DType::f32 ? static_cast<const float*>(v.data)[i]
                               : widened(static_cast<const bf16_t*>(v.data)[i]);
}
// round(sum + bias + residual) to y (.,n) at (row, column).
__device__ inline void write_sum(const View& y, const View& bias, const View& residual, int64_t n,
                                 int64_t row, int64_t column, float sum) {
  const int64_t i = row * n + column;
  if (bias.data) sum = sum + load_any(bias, column);
  if (residual.data) sum = sum + load_any(residual, i);
  if (y.dtype == DType::f32)
    static_cast<float*>(y.data)[i] = sum;
  else
    static_cast<bf16_t*>(y.data)[i] = rounded_bf16(sum);
}

inline unsigned blocks_of(int64_t n, int64_t each) { return static_cast<unsigned>((n + each - 1) / each); }

}  // namespace
}  // namespace llmctl::kn
