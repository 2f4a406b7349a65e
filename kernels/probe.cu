// SPDX-License-Identifier: Apache-2.0
// The CUDA cores' fp32 limit; tensor cores are measured through the GEMM that uses them.
#include "kernels/probe.h"

namespace llmctl::kn {
namespace {

constexpr int kThreads = 256, kChains = 16;

__global__ void probe_kernel(int64_t iterations, float* sink, int64_t* flops) {
  float acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = static_cast<float>(i + threadIdx.x);
  for (int64_t n = 0; n < iterations; ++n)
    for (int i = 0; i < kChains; ++i) acc[i] = fmaf(acc[i], 0.999f, 1e-3f);
  float sum = 0.0f;
  for (int i = 0; i < kChains; ++i) sum += acc[i];
  if (threadIdx.x != 0) {
    if (sum == -1.0f) sink[blockIdx.x] = sum;  // never: keeps the chains alive
    return;
  }
  sink[blockIdx.x] = sum;
  flops[blockIdx.x] += iterations * kChains * 2 * kThreads;
}

}  // namespace

void launch(Cuda, const PeakProbe& a, const Exec& ex) {
  probe_kernel<<<static_cast<unsigned>(a.sink.size()), kThreads, 0, static_cast<cudaStream_t>(ex.stream)>>>(
      a.iterations, a.sink.as<float>(), a.flops.as<int64_t>());
}

}  // namespace llmctl::kn
