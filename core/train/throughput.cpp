// SPDX-License-Identifier: Apache-2.0
// Work and the machine's limit, for "share of the peak".
#include <algorithm>
#include <chrono>

#include "core/train/run.h"
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
  const int64_t tasks = exec.pool->threads();
  std::vector<float> sink(static_cast<size_t>(tasks));
  double best = 0;
  for (int attempt = 0; attempt < 5; ++attempt) {
    std::vector<int64_t> flops(static_cast<size_t>(tasks), 0);
    const auto start = std::chrono::steady_clock::now();
    kn::run(kn::PeakProbe{.dtype = dtype, .iterations = 400'000, .sink = View(sink.data(), DType::f32, {tasks}),
                          .flops = View(flops.data(), DType::i64, {tasks}), .order = order}, exec);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    double total = 0;
    for (int64_t f : flops) total += static_cast<double>(f);
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
