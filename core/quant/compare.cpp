// SPDX-License-Identifier: Apache-2.0
#include "core/quant/compare.h"

#include <algorithm>

#include "core/base/signal.h"
#include "kernels/math.h"

namespace llmctl {
namespace {

struct PositionCost {
  double kld = 0, before = 0, after = 0;
  bool same_top = false;
};

PositionCost cost_of(const float* p, float p_lse, const float* q, float q_lse, int64_t vocab) {
  PositionCost cost;
  int64_t top_p = 0, top_q = 0;
  for (int64_t v = 0; v < vocab; ++v) {
    const float log_p = p[v] - p_lse, log_q = q[v] - q_lse;
    cost.kld += static_cast<double>(kn::exp(log_p)) * (static_cast<double>(log_p) - static_cast<double>(log_q));
    if (p[v] > p[top_p]) top_p = v;
    if (q[v] > q[top_q]) top_q = v;
  }
  cost.same_top = top_p == top_q;
  return cost;
}

struct Sums {
  double kld = 0, before = 0, after = 0;
  int64_t tokens = 0, same_top = 0;
};

void add_row(RowPass& original, RowPass& quantised, const std::vector<int32_t>& row, const kn::Exec& exec, Sums& sums) {
  const int64_t vocab = original.model().spec().config.vocab, n = static_cast<int64_t>(row.size()) - 1;
  if (n < 1) return;
  original.hidden(row);
  quantised.hidden(row);
  for (int64_t at = 0; at < n; at += RowPass::kLogitRows) {
    const RowRange range{at, std::min(RowPass::kLogitRows, n - at)};
    const std::span<const int32_t> targets(row.data() + at + 1, static_cast<size_t>(range.count));
    const RowPass::Scores p = original.scores(range, targets), q = quantised.scores(range, targets);
    PositionCost cost[RowPass::kLogitRows];
    kn::parallel_for(exec, range.count, [&](int64_t r) {
      cost[r] = cost_of(p.logits.as<float>() + r * p.logits.cols(), p.lse.as<float>()[r],
                        q.logits.as<float>() + r * q.logits.cols(), q.lse.as<float>()[r], vocab);
      cost[r].before = p.loss.as<float>()[r];
      cost[r].after = q.loss.as<float>()[r];
    });
    for (int64_t r = 0; r < range.count; ++r) {
      sums.kld += cost[r].kld;
      sums.before += cost[r].before;
      sums.after += cost[r].after;
      sums.same_top += cost[r].same_top;
    }
  }
  sums.tokens += n;
}

}  // namespace

Comparison compare_models(Model& original, Model& quantised, const TokenRows& rows, const kn::Exec& exec) {
  check(original.spec().config.vocab == quantised.spec().config.vocab, Code::bug, "[quant] vocabularies differ: ",
        original.spec().config.vocab, " and ", quantised.spec().config.vocab);
  size_t longest = 1;
  for (const auto& row : rows) longest = std::max(longest, row.size());
  RowPass before(original, static_cast<int64_t>(longest), exec), after(quantised, static_cast<int64_t>(longest), exec);
  Sums sums;
  for (const auto& row : rows) {
    stop_if_interrupted("quantize");
    add_row(before, after, row, exec, sums);
  }
  check(sums.tokens > 0, Code::input, "[quant] the text has no token to predict");
  const auto n = static_cast<double>(sums.tokens);
  return {.tokens = sums.tokens, .perplexity_before = kn::exp64(sums.before / n),
          .perplexity_after = kn::exp64(sums.after / n), .kld = sums.kld / n,
          .same_top = static_cast<double>(sums.same_top) / n};
}

}  // namespace llmctl
