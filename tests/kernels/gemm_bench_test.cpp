// SPDX-License-Identifier: Apache-2.0
// test_kernels "[bench]": rates of the dense products beside the peak of a loop that touches only
// registers, both the best of several rounds of the same run, one thread, in thread CPU time.
#ifndef __aarch64__  // the peaks are of x86's instructions
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <functional>

#include "kernels/gemm.h"
#include "kernels/quant_gemm.h"
#include "tests/kernels/op_check.h"

using namespace llmctl;
using namespace llmctl::kn;

namespace {

double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

#define EACH_OF_12(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define CLEAR(i) "vpxor %%ymm" #i ",%%ymm" #i ",%%ymm" #i "\n"
#define FMA_512(i) "vfmadd231ps %%zmm14,%%zmm15,%%zmm" #i "\n"
#define FMA_256(i) "vfmadd231ps %%ymm14,%%ymm15,%%ymm" #i "\n"
#define PAIR_512(i) "vdpbf16ps %%zmm14,%%zmm15,%%zmm" #i "\n"
#define BYTES_512(i) "vpdpbusd %%zmm14,%%zmm15,%%zmm" #i "\n"
#define USED "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm14", "xmm15"
#define PEAK(name, X, operations)                                            \
  double name() {                                                            \
    asm volatile(EACH_OF_12(CLEAR) CLEAR(14) CLEAR(15)::: USED);             \
    const double start = cpu_seconds();                                      \
    for (int i = 0; i < 200000; ++i) asm volatile(EACH_OF_12(X)::: USED);    \
    return 200000.0 * 12 * operations / (cpu_seconds() - start) * 1e-9;      \
  }
PEAK(peak_fma_512, FMA_512, 32)
PEAK(peak_fma_256, FMA_256, 16)
PEAK(peak_pair_512, PAIR_512, 64)
PEAK(peak_bytes_512, BYTES_512, 128)

// The higher of the ways this instruction set has for a dtype.
double peak_of(Isa isa, DType dtype) {
  if (isa == Isa::avx2) return peak_fma_256();
  if (isa == Isa::avx512_bf16 && dtype == DType::i8) return peak_bytes_512();
  if (isa == Isa::avx512_bf16 && dtype == DType::bf16) return std::max(peak_fma_512(), peak_pair_512());
  return peak_fma_512();
}

void report(const char* what, Isa isa, DType dtype, double operations, double bytes, const std::function<void()>& body) {
  double best = 1e9, peak = 0;
  for (int i = 0; i < 15; ++i) {
    const double start = cpu_seconds();
    body();
    best = std::min(best, cpu_seconds() - start);
    peak = std::max(peak, peak_of(isa, dtype));
  }
  const double rate = operations / best * 1e-9;
  std::printf("%-30s %-12s %-5s %7.1f GOP/s, %5.1f %% of the register peak %6.1f; weights %5.1f GB/s\n", what,
              name_of(isa), name_of(dtype), rate, 100 * rate / peak, peak, bytes / best * 1e-9);
}

void bench_gemm(int64_t m, int64_t k, int64_t n, DType dtype, Isa isa, int leaves) {
  Buffer x(dtype, {m, k}), w(dtype, {n, k}), p(dtype, {panel_elements(dtype, k, n)}), y(DType::f32, {m, n});
  x.fill(1), w.fill(2);
  const Exec ex = test_exec(isa);
  run(PackPanels{.src = w, .panels = p, .panels_t = {}}, ex);
  char what[64];
  std::snprintf(what, sizeof(what), "gemm %ldx%ldx%ld L=%d", m, k, n, leaves);
  const double operations = 2.0 * static_cast<double>(m * n * k);
  report(what, isa, dtype, operations, static_cast<double>(p.bytes()),
         [&] { run(Gemm{.x = x, .w = p, .y = y, .n = n, .leaves = leaves_of(k, leaves)}, ex); });
}

void bench_dw(int64_t tokens, int64_t n, int64_t k, Isa isa) {
  Buffer dy(DType::bf16, {tokens, n}), x(DType::bf16, {tokens, k}), grad(DType::i64, {n, k}), flag(DType::i32, {1});
  Buffer work(DType::u8, {gemm_dw_workspace(DType::bf16, tokens, tokens, n, k)});
  dy.fill(1), x.fill(2), grad.zero();
  char what[64];
  std::snprintf(what, sizeof(what), "gemm_dw T=%ld %ldx%ld", tokens, n, k);
  report(what, isa, DType::bf16, 2.0 * static_cast<double>(tokens * n * k), 0, [&] {
    run(GemmDw{.dy = dy, .x = x, .seq = tokens, .grad = grad, .overflow = flag, .work = work}, test_exec(isa));
  });
}

void bench_quant(int bits, int64_t m, int64_t k, int64_t n, Isa isa) {
  const int64_t group = 128, groups = k / group;
  Buffer q(DType::i8, {m, k}), scale(DType::f32, {m, groups}), w(DType::i8, {n, k}), sw(DType::f32, {n, groups});
  Buffer p(DType::u8, {quant_panel_bytes(bits, n, k, group)}), y(DType::f32, {m, n});
  q.fill_int(1, -127, 127), scale.fill(2), w.fill_int(3, -8, 7), sw.fill(4);
  run(PackQuantPanels{.q = w, .scale = sw, .dst = p, .bits = bits, .group = group}, test_exec(isa));
  char what[64];
  std::snprintf(what, sizeof(what), "quant_gemm %d bits %ldx%ldx%ld", bits, m, k, n);
  report(what, isa, DType::i8, 2.0 * static_cast<double>(m * n * k), static_cast<double>(p.bytes()), [&] {
    run(QuantGemm{.q = q, .scale = scale, .w = p, .y = y, .bits = bits, .n = n, .group = group}, test_exec(isa));
  });
}

}  // namespace

TEST_CASE("rates of the dense products", "[.][bench]") {
  for (Isa isa : supported_isas()) {
    if (isa == Isa::portable) continue;
    for (DType dtype : {DType::f32, DType::bf16}) {
      bench_gemm(512, 2048, 1024, dtype, isa, 1);
      bench_gemm(512, 768, 768, dtype, isa, 1);
      bench_gemm(512, 2048, 1024, dtype, isa, 8);
      bench_gemm(1, 2048, 8192, dtype, isa, 1);
      bench_gemm(4, 2048, 8192, dtype, isa, 1);
    }
    bench_dw(1024, 768, 768, isa);
    for (int bits : {8, 4}) {
      bench_quant(bits, 1, 2048, 16384, isa);
      bench_quant(bits, 256, 2048, 1024, isa);
    }
  }
}
#endif
