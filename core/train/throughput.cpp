// SPDX-License-Identifier: Apache-2.0
// Work and the machine's limit, for "share of the peak".
#include <algorithm>
#include <chrono>

#include "core/train/run.h"
#include "kernels/basic.h"
#include "kernels/probe.h"

namespace llmctl {

double training_flops_per_token(const DecoderConfig& c, const Table& table, int64_t seq) {
  double weights = 0;
  const double chosen = c.moe.experts > 0 ? static_cast<double>(c.moe.per_token) / static_cast<double>(c.moe.experts) : 1;
  for (const Weight& w : table)  // of experts, those that a token goes to
    if (w.multiplies())
      weights += (w.name.find(".experts.") == std::string::npos ? 1 : chosen) * static_cast<double>(w.rows() * w.cols());
  // Scores and their use: 2 products of width heads * head_dim over half the keys, forward and twice
  // backward.
  const double attention = 6.0 * static_cast<double>(c.layers * c.attention_width() * seq);
  return 6.0 * weights + attention;
}

namespace {

double probe(DType dtype, kn::Bf16Order order, const kn::Exec& exec) {
  const bool on_gpu = exec.device.kind != kn::DeviceKind::cpu;  // a task is a block of threads
  const int64_t tasks = on_gpu ? 8 * kn::device_info(exec.device.index).processors : exec.pool->threads();
  Arena arena("probe", exec.device);
  kn::PeakProbe op{.dtype = dtype, .iterations = on_gpu ? 4'000 : 400'000, .order = order};
  for (bool planned : {false, true}) {
    op.sink = arena.take(DType::f32, {tasks});
    op.flops = arena.take(DType::i64, {tasks});
    if (!planned) arena.allocate();
  }
  double best = 0;
  for (int attempt = 0; attempt < (on_gpu ? 2 : 5); ++attempt) {
    kn::run(kn::Clear{.x = op.flops}, exec);
    kn::wait(exec);
    const auto start = std::chrono::steady_clock::now();
    kn::run(op, exec);
    kn::wait(exec);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    double total = 0;
    for (int64_t f : fetched<int64_t>(exec, op.flops)) total += static_cast<double>(f);
    best = std::max(best, total / seconds);
  }
  return best;
}

}  // namespace

// Products of bf16 are exact in fp32, so a CPU whose pair instruction is slower than its FMA has the
// FMA's limit.
double measure_peak(DType dtype, kn::Bf16Order order, const kn::Exec& exec) {
  if (dtype == DType::i8) return probe(dtype, order, exec);
  const double f32 = probe(DType::f32, order, exec);
  return dtype == DType::bf16 ? std::max(f32, probe(dtype, order, exec)) : f32;
}

}  // namespace llmctl
