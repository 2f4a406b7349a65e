// SPDX-License-Identifier: Apache-2.0
#include "kernels/probe.h"

#include "kernels/simd.h"

namespace llmctl::kn {
namespace {

// Enough chains to hide the latency of the product, few enough for 16 vector registers on AVX2.
constexpr int kChains = KN_ISA >= 2 ? 16 : 6;

float f32_chains(int64_t iterations) {
  F32 acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = set1(static_cast<float>(i));
  const F32 a = set1(0.999f), b = set1(1e-3f);
  for (int64_t n = 0; n < iterations; ++n)
    for (int i = 0; i < kChains; ++i) acc[i] = fma(acc[i], a, b);
  for (int i = 1; i < kChains; ++i) acc[0] = add(acc[0], acc[i]);
  return sum16(acc[0]);
}

float bf16_chains(int64_t iterations) {
  F32 acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = set1(static_cast<float>(i));
  const I32 a = iset1(0x3f803f80), b = iset1(0x3a803a80);  // pairs of 1 and of 2^-10
  for (int64_t n = 0; n < iterations; ++n)
    for (int i = 0; i < kChains; ++i) acc[i] = dot_pair(acc[i], a, b);
  for (int i = 1; i < kChains; ++i) acc[0] = add(acc[0], acc[i]);
  return sum16(acc[0]);
}

}  // namespace

#if KN_ONCE
void PeakProbe::check() const {
  llmctl::check(dtype == DType::f32 || dtype == DType::bf16, Code::bug, "[peak_probe] dtype ", name_of(dtype));
  llmctl::check(sink.dtype == DType::f32 && flops.dtype == DType::i64 && sink.size() == flops.size(), Code::bug,
                "[peak_probe] ", sink.size(), " sinks for ", flops.size(), " tasks");
}
#endif

void launch(KN_CPU, const PeakProbe& a, const Exec& ex) {
  float* sink = a.sink.as<float>();
  int64_t* flops = a.flops.as<int64_t>();
  const int64_t round = kChains * kLanes * (a.dtype == DType::bf16 ? 4 : 2);
  parallel_for(ex, a.sink.size(), [&](int64_t t) {
    sink[t] = a.dtype == DType::f32 ? f32_chains(a.iterations) : bf16_chains(a.iterations);
    flops[t] += a.iterations * round;
  });
}

}  // namespace llmctl::kn
