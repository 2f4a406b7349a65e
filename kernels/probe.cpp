// SPDX-License-Identifier: Apache-2.0
#include "kernels/probe.h"

#include "kernels/dot4.h"
#include "kernels/gemm_amx.h"
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

float i8_chains(int64_t iterations) {
  I32 acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = iset1(i);
  const I32 a = iset1(0x01020304), b = iset1(0x04030201);
  for (int64_t n = 0; n < iterations; ++n)
    for (int i = 0; i < kChains; ++i) acc[i] = dot4(acc[i], a, b);
  for (int i = 1; i < kChains; ++i) acc[0] = iadd(acc[0], acc[i]);
  return sum16(to_float(acc[0]));
}

#if KN_ISA == 3
int64_t tile_chains(int64_t iterations, bool bytes) {  // four output tiles, as in a product
  const TileScope scope;
  for (int64_t n = 0; n < iterations; ++n)
    if (bytes) {
      _tile_dpbsud(0, 4, 6);
      _tile_dpbsud(1, 4, 7);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  return iterations * 4 * 2 * 16 * 16 * (bytes ? 64 : 32);
}
#endif

}  // namespace

#if KN_ONCE
void PeakProbe::check() const {
  llmctl::check(dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::i8, Code::bug, "[peak_probe] dtype ", name_of(dtype));
  llmctl::check(sink.dtype == DType::f32 && flops.dtype == DType::i64 && sink.size() == flops.size(), Code::bug,
                "[peak_probe] ", sink.size(), " sinks for ", flops.size(), " tasks");
}
#endif

void launch(KN_CPU, const PeakProbe& a, const Exec& ex) {
  float* sink = a.sink.as<float>();
  int64_t* flops = a.flops.as<int64_t>();
#if KN_ISA == 3
  const bool bytes = a.dtype == DType::i8;
  if (ex.isa == Isa::amx && (bytes || (a.dtype == DType::bf16 && a.order == Bf16Order::amx32)))
    return parallel_for(ex, a.sink.size(), [&](int64_t t) { flops[t] += tile_chains(a.iterations / 4, bytes); });
#endif
  const int64_t round = kChains * kLanes * (a.dtype == DType::i8 ? 8 : a.dtype == DType::bf16 ? 4 : 2);
  parallel_for(ex, a.sink.size(), [&](int64_t t) {
    sink[t] = a.dtype == DType::f32    ? f32_chains(a.iterations)
              : a.dtype == DType::bf16 ? bf16_chains(a.iterations)
                                       : i8_chains(a.iterations);
    flops[t] += a.iterations * round;
  });
}

}  // namespace llmctl::kn
