// SPDX-License-Identifier: Apache-2.0
// Products and attention alone.
#include <fmt/format.h>

#include "cmd/bench.h"
#include "core/tensor/table.h"

namespace llmctl {
namespace {

struct GemmShape {
  int64_t m, n, k;
};

void gemm(Bench& bench, DType dtype, const GemmShape& s, int leaves) {
  const kn::Exec& exec = bench.exec;
  const Filled x(dtype, {s.m, s.k}, exec);
  const Filled y(dtype, {s.m, s.n}, exec);
  const Filled panels(dtype, {kn::panel_elements(dtype, s.k, s.n)}, exec);
  {
    const Filled w(dtype, {s.n, s.k}, exec);
    kn::run(kn::PackPanels{.src = w.view, .dst = panels.view}, exec);
  }
  const kn::Gemm op{.x = x.view, .w = panels.view, .y = y.view, .n = s.n, .leaves = kn::leaves_of(s.k, leaves)};
  const double seconds = bench.median([&] { kn::run(op, exec); });
  const std::string name = fmt::format("gemm {}x{}x{} {}{}", s.m, s.n, s.k, kn::name_of(dtype),
                                       leaves > 1 ? fmt::format(" {} leaves", leaves) : "");
  if (s.m == 1)  // every weight is read once
    return bench.add(name, static_cast<double>(panels.view.bytes()) / seconds / 1e9, "GB/s", bench.bandwidth() / 1e9);
  const double flops = 2.0 * static_cast<double>(s.m * s.n * s.k);
  bench.add(name, flops / seconds / 1e9, "GFLOP/s", bench.peak(dtype) / 1e9);
}

void gemm_dw(Bench& bench, DType dtype, int64_t tokens, int64_t n, int64_t k) {
  const kn::Exec& exec = bench.exec;
  const Filled dy(dtype, {tokens, n}, exec), x(dtype, {tokens, k}, exec);
  Filled grad(DType::i64, {n, k}, exec), overflow(DType::i32, {1}, exec);
  Filled work(DType::u8, {std::max<int64_t>(1, kn::gemm_dw_workspace(dtype, tokens, 256, n, k))}, exec);
  const kn::GemmDw op{.dy = dy.view, .x = x.view, .seq = 256, .grad = grad.view, .parts = 8,
                      .overflow = overflow.view, .work = work.view};
  const double seconds = bench.median([&] { kn::run(op, exec); });
  bench.add(fmt::format("gemm dW {}x{}, {} tokens {}", n, k, tokens, kn::name_of(dtype)),
            2.0 * static_cast<double>(tokens * n * k) / seconds / 1e9, "GFLOP/s", bench.peak(dtype) / 1e9);
}

struct AttentionCase {
  int64_t tokens, heads, head_dim;
  DType dtype;
};

void attention(Bench& bench, const AttentionCase& c) {
  const kn::Exec& exec = bench.exec;
  const int64_t t = c.tokens, h = c.heads, d = c.head_dim, pages = t / kn::kPageTokens;
  const Filled qkv(c.dtype, {t, 3 * h, d}, exec), dout(c.dtype, {t, h, d}, exec), dqkv(c.dtype, {t, 3 * h, d}, exec);
  const Filled out(c.dtype, {t, h, d}, exec), lse(DType::f32, {t, h}, exec);
  const int64_t page = kn::kv_page_elements(c.dtype, d);
  const Filled k(c.dtype, {pages, h, page}, exec), v(c.dtype, {pages, h, page}, exec);
  const Filled slots(DType::i64, {t}, exec), table(DType::i32, {pages}, exec), sequences(DType::i32, {1, 4}, exec);
  for (int64_t i = 0; i < t; ++i) slots.view.as<int64_t>()[i] = i;
  for (int64_t i = 0; i < pages; ++i) table.view.as<int32_t>()[i] = static_cast<int32_t>(i);
  const int32_t row[4] = {0, static_cast<int32_t>(t), static_cast<int32_t>(t), 0};
  std::copy(row, row + 4, sequences.view.as<int32_t>());
  const kn::KvPages kv{k.view, v.view};
  kn::run(kn::KvWrite{.qkv = qkv.view, .heads = h, .kv_heads = h, .slots = slots.view, .kv = kv}, exec);
  const kn::AttnFwd fwd{.qkv = qkv.view, .heads = h, .kv_heads = h, .kv = kv, .sequences = sequences.view,
                        .page_table = table.view, .scale = 0.125f, .out = out.view, .lse = lse.view};
  // Two products over half of the (T,T) scores forward, five backward.
  const double product = static_cast<double>(t * t * h * d);
  const std::string name = fmt::format("attention T={} H={} D={} {}", t, h, d, kn::name_of(c.dtype));
  const double limit = bench.peak(c.dtype) / 1e9;
  bench.add(name + " forward", 2 * product / bench.median([&] { kn::run(fwd, exec); }) / 1e9, "GFLOP/s", limit);
  const Filled work(DType::u8, {std::max<int64_t>(1, kn::attn_bwd_workspace(c.dtype, t, h, h, d))}, exec);
  const kn::AttnBwd bwd{.qkv = qkv.view, .heads = h, .kv_heads = h, .sequences = sequences.view, .scale = 0.125f,
                        .out = out.view, .lse = lse.view, .dout = dout.view, .dqkv = dqkv.view, .work = work.view};
  bench.add(name + " backward", 5 * product / bench.median([&] { kn::run(bwd, exec); }) / 1e9, "GFLOP/s", limit);
}

}  // namespace

void bench_gemm(Bench& bench) {
  for (DType dtype : {DType::f32, DType::bf16}) {
    const int64_t cube = bench.quick ? 512 : 2048, rows = bench.quick ? 256 : 1024;
    gemm(bench, dtype, {cube, cube, cube}, 1);
    gemm(bench, dtype, {cube, cube, cube}, default_leaves(cube));
    gemm(bench, dtype, {rows, bench.quick ? 8192 : 50304, 768}, 1);
    gemm(bench, dtype, {1, 50304, 768}, 1);
    gemm_dw(bench, dtype, rows, bench.quick ? 768 : 2048, 768);
  }
}

void bench_attention(Bench& bench) {
  for (DType dtype : {DType::f32, DType::bf16}) attention(bench, {bench.quick ? 256 : 1024, 12, 64, dtype});
}

}  // namespace llmctl
