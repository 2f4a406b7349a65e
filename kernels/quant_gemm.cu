// SPDX-License-Identifier: Apache-2.0
// QuantGemm, PackQuantPanels and QuantizeRows on CUDA, on the panels of quant_gemm.cpp: integer
// dot products and the same fp32 steps, so the bits are the CPU's. Unverified: not yet run on a GPU.
#include "kernels/gemm_device.h"
#include "kernels/quant_gemm.h"

namespace llmctl::kn {
namespace {

struct Shape {
  int bits;
  int64_t m, n, k, group, groups, bytes;  // bytes of a group in a panel
};
Shape shape_of(int bits, int64_t m, int64_t n, int64_t k, int64_t group) {
  return {bits, m, n, k, group, (k + group - 1) / group, 64 + group * 2 * bits};
}

__device__ inline int code(const int8_t* q, const Shape& s, int64_t n, int64_t k) {
  const int offset = s.bits == 8 ? 128 : 8;
  const int v = n < s.n && k < s.k ? q[n * s.k + k] : 0;
  return (v + offset) & (2 * offset - 1);
}

__global__ void pack_quant_kernel(Shape s, const int8_t* q, const float* scale, unsigned char* dst, int64_t size) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (i >= size) return;
  const int64_t at = i % s.bytes, g = i / s.bytes % s.groups, panel = i / s.bytes / s.groups;
  if (at < 64) {
    const int64_t n = panel * 16 + at / 4;
    const uint32_t b = n < s.n ? __float_as_uint(scale[n * s.groups + g]) : 0u;
    dst[i] = static_cast<unsigned char>(b >> (at % 4 * 8));
    return;
  }
  const int64_t byte = (at - 64) % 64, n = panel * 16 + byte / 4;
  const int64_t k = g * s.group + (at - 64) / 64 * (32 / s.bits) + byte % 4;
  int v = code(q, s, n, k);
  if (s.bits == 4) v |= code(q, s, n, k + 4) << 4;
  dst[i] = static_cast<unsigned char>(v);
}

// The weight of one column at index c of a group, from the group's bytes after its scales.
__device__ inline int weight(const unsigned char* w, int bits, int64_t c, int column) {
  if (bits == 8) return w[c / 4 * 64 + column * 4 + c % 4] - 128;
  const int both = w[c / 8 * 64 + column * 4 + c % 4];
  return (c / 4 % 2 ? both >> 4 : both & 15) - 8;
}

__global__ void quant_gemm_kernel(Shape s, const int8_t* q, const float* scale, const unsigned char* w,
                                  View y, View bias, View residual) {
  const int64_t panel = blockIdx.x, row = blockIdx.y * static_cast<int64_t>(kSide) + threadIdx.y;
  const int column = static_cast<int>(threadIdx.x);
  if (row >= s.m || panel * 16 + column >= s.n) return;
  float acc = 0;
  for (int64_t g = 0; g < s.groups; ++g) {
    const unsigned char* place = w + (panel * s.groups + g) * s.bytes;
    const int64_t first = g * s.group, length = s.k - first < s.group ? s.k - first : s.group;
    int dot = 0;
    for (int64_t c = 0; c < length; ++c)
      dot += q[row * s.k + first + c] * weight(place + 64, s.bits, c, column);
    const float sw = reinterpret_cast<const float*>(place)[column];
    acc = acc + static_cast<float>(dot) * scale[row * s.groups + g] * sw;
  }
  write_sum(y, bias, residual, s.n, row, panel * 16 + column, acc);
}

template <class T>
__global__ void quantize_kernel(Shape s, const T* x, int8_t* q, float* scale) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (i >= s.m * s.groups) return;
  const int64_t first = i % s.groups * s.group, from = i / s.groups * s.k + first;
  const int64_t length = s.k - first < s.group ? s.k - first : s.group;
  float top = 0;
  for (int64_t c = 0; c < length; ++c) {
    const float v = fabsf(widened(x[from + c]));
    top = v > top ? v : top;
  }
  const float step = top / 127.0f;
  scale[i] = step;
  for (int64_t c = 0; c < length; ++c) {
    float v = step == 0.0f ? 0.0f : widened(x[from + c]) / step;
    v = v < 127.0f ? v : 127.0f;
    v = v > -127.0f ? v : -127.0f;
    q[from + c] = static_cast<int8_t>(__float2int_rn(v));
  }
}

}  // namespace

void launch(Cuda, const QuantizeRows& op, const Exec& ex) {
  const auto stream = static_cast<cudaStream_t>(ex.stream);
  const Shape s = shape_of(8, op.x.rows(), 0, op.x.cols(), op.group);
  if (s.m == 0) return;
  const unsigned blocks = blocks_of(s.m * s.groups, 128);
  if (op.x.dtype == DType::f32)
    quantize_kernel<<<blocks, 128, 0, stream>>>(s, op.x.as<float>(), op.q.as<int8_t>(), op.scale.as<float>());
  else
    quantize_kernel<<<blocks, 128, 0, stream>>>(s, op.x.as<bf16_t>(), op.q.as<int8_t>(), op.scale.as<float>());
}

void launch(Cuda, const PackQuantPanels& op, const Exec& ex) {
  const Shape s = shape_of(op.bits, 0, op.q.rows(), op.q.cols(), op.group);
  pack_quant_kernel<<<blocks_of(op.dst.bytes(), 256), 256, 0, static_cast<cudaStream_t>(ex.stream)>>>(
      s, op.q.as<int8_t>(), op.scale.as<float>(), op.dst.as<unsigned char>(), op.dst.bytes());
}

void launch(Cuda, const QuantGemm& g, const Exec& ex) {
  const Shape s = shape_of(g.bits, g.q.rows(), g.n, g.q.cols(), g.group);
  if (s.m == 0) return;
  const dim3 grid(blocks_of(s.n, 16), blocks_of(s.m, kSide));
  quant_gemm_kernel<<<grid, dim3(kSide, kSide), 0, static_cast<cudaStream_t>(ex.stream)>>>(
      s, g.q.as<int8_t>(), g.scale.as<float>(), g.w.as<unsigned char>(), g.y, g.bias, g.residual);
}

}  // namespace llmctl::kn
