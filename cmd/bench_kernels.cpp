// SPDX-License-Identifier: Apache-2.0
// Products and attention alone.
#include <fmt/format.h>

#include <numeric>

#include "cmd/bench.h"
#include "core/tensor/table.h"

namespace llmctl {
namespace {

// Beside what registers or, for few rows of a large weight, the reading of it allow.
void add_product(Bench& bench, const std::string& name, const GemmShape& s, double seconds,
                 int64_t weight_bytes, DType peak) {
  const double flops = 2.0 * static_cast<double>(s.m * s.n * s.k);
  double limit = bench.peak(peak);
  if (weight_bytes > int64_t{32} << 20)  // a smaller one stays in cache
    limit = std::min(limit, flops / static_cast<double>(weight_bytes) * bench.bandwidth());
  bench.add(name, flops / seconds / 1e9, "GFLOP/s", limit / 1e9);
}

void gemm(Bench& bench, DType dtype, const GemmShape& s, int leaves) {
  const kn::Exec& exec = bench.exec;
  const Filled x(dtype, {s.m, s.k}, exec);
  const Filled y(dtype, {s.m, s.n}, exec);
  const Filled panels(dtype, {kn::panel_elements(dtype, s.k, s.n)}, exec);
  {
    const Filled w(dtype, {s.n, s.k}, exec);
    kn::run(kn::PackPanels{.src = w.view, .panels = panels.view, .panels_t = {}}, exec);
  }
  const kn::Gemm op{.x = x.view, .w = panels.view, .y = y.view, .n = s.n, .leaves = kn::leaves_of(s.k, leaves),
                    .order = bench.options.order};
  const double seconds = bench.median([&] { kn::run(op, exec); });
  const std::string name = fmt::format("gemm {}x{}x{} {}{}", s.m, s.n, s.k, kn::name_of(dtype),
                                       leaves > 1 ? fmt::format(" {} leaves", leaves) : "");
  if (s.m == 1 && bench.options.shapes.empty())
    return bench.add(name, static_cast<double>(panels.view.bytes()) / seconds / 1e9, "GB/s",
                     bench.bandwidth() / 1e9);
  add_product(bench, name, s, seconds, panels.view.bytes(), dtype);
}

// int8 activations, quantised beforehand, with 8- or 4-bit weights.
void quant_gemm(Bench& bench, int bits, const GemmShape& s) {
  const kn::Exec& exec = bench.exec;
  const int64_t group = 128, groups = (s.k + group - 1) / group;
  const Filled q(DType::i8, {s.m, s.k}, exec), scale(DType::f32, {s.m, groups}, exec),
      y(DType::bf16, {s.m, s.n}, exec);
  const Filled panels(DType::u8, {kn::quant_panel_bytes(bits, s.n, s.k, group)}, exec);
  {
    const Filled w(DType::i8, {s.n, s.k}, exec, bits == 4 ? 7 : 8), w_scale(DType::f32, {s.n, groups}, exec);
    kn::run(
        kn::PackQuantPanels{
            .q = w.view, .scale = w_scale.view, .dst = panels.view, .bits = bits, .group = group},
        exec);
  }
  const kn::QuantGemm op{.q = q.view,
                         .scale = scale.view,
                         .w = panels.view,
                         .y = y.view,
                         .bits = bits,
                         .n = s.n,
                         .group = group};
  const double seconds = bench.median([&] { kn::run(op, exec); });
  add_product(bench, fmt::format("gemm {}x{}x{} int{}", s.m, s.n, s.k, bits), s, seconds, panels.view.bytes(),
              DType::i8);
}

void gemm_shapes(Bench& bench) {
  for (const GemmShape& s : bench.options.shapes) {
    for (DType dtype : {DType::f32, DType::bf16})
      if (bench.options.wants(kn::name_of(dtype))) gemm(bench, dtype, s, default_leaves(s.k));
    for (int bits : {8, 4})
      if (bench.options.wants(fmt::format("int{}", bits))) quant_gemm(bench, bits, s);
  }
}

void gemm_dw(Bench& bench, DType dtype, int64_t tokens, int64_t n, int64_t k) {
  const kn::Exec& exec = bench.exec;
  const Filled dy(dtype, {tokens, n}, exec), x(dtype, {tokens, k}, exec);
  Filled grad(DType::i64, {n, k}, exec), overflow(DType::i32, {1}, exec);
  Filled work(DType::u8, {std::max<int64_t>(1, kn::gemm_dw_workspace(dtype, tokens, 256, n, k, bench.options.order))}, exec);
  const kn::GemmDw op{.dy = dy.view, .x = x.view, .seq = 256, .grad = grad.view, .parts = 8,
                      .overflow = overflow.view, .work = work.view, .order = bench.options.order};
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
  std::vector<int64_t> slot(static_cast<size_t>(t));
  std::iota(slot.begin(), slot.end(), 0);
  std::vector<int32_t> page_of(static_cast<size_t>(pages));
  std::iota(page_of.begin(), page_of.end(), 0);
  const std::vector<int32_t> row = {0, static_cast<int32_t>(t), static_cast<int32_t>(t), 0};
  const Filled slots(DType::i64, {t}, exec, slot), table(DType::i32, {pages}, exec, page_of),
      sequences(DType::i32, {1, 4}, exec, row);
  const kn::KvPages kv{k.view, v.view};
  kn::run(kn::KvWrite{.qkv = qkv.view, .heads = h, .kv_heads = h, .slots = slots.view, .kv = kv}, exec);
  const kn::AttnFwd fwd{.qkv = qkv.view, .heads = h, .kv_heads = h, .kv = kv, .sequences = sequences.view,
                        .page_table = table.view, .scale = 0.125f, .out = out.view, .lse = lse.view,
                        .order = bench.options.order};
  // Two products over half of the (T,T) scores forward, five backward.
  const double product = static_cast<double>(t * t * h * d);
  const std::string name = fmt::format("attention T={} H={} D={} {}", t, h, d, kn::name_of(c.dtype));
  const double limit = bench.peak(c.dtype) / 1e9;
  bench.add(name + " forward", 2 * product / bench.median([&] { kn::run(fwd, exec); }) / 1e9, "GFLOP/s", limit);
  const Filled work(DType::u8, {std::max<int64_t>(1, kn::attn_bwd_workspace(c.dtype, t, h, h, d, fwd.order))}, exec);
  const kn::AttnBwd bwd{.qkv = qkv.view, .heads = h, .kv_heads = h, .sequences = sequences.view, .scale = 0.125f,
                        .out = out.view, .lse = lse.view, .dout = dout.view, .dqkv = dqkv.view, .work = work.view,
                        .order = fwd.order};
  bench.add(name + " backward", 5 * product / bench.median([&] { kn::run(bwd, exec); }) / 1e9, "GFLOP/s", limit);
}

}  // namespace

void bench_gemm(Bench& bench) {
  if (!bench.options.shapes.empty()) return gemm_shapes(bench);
  for (DType dtype : {DType::f32, DType::bf16}) {
    if (!bench.options.wants(kn::name_of(dtype))) continue;
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
