// SPDX-License-Identifier: Apache-2.0
// The loss on held-out data.
#include "core/models/score.h"
#include "core/train/collect.h"
#include "core/train/run.h"

namespace llmctl {

double mean_loss(Model& model, const BatchSource& source, int64_t units, int64_t max_tokens,
                 const kn::Exec& exec, Comm* comm) {
  Scorer scorer(model, max_tokens, exec);
  std::vector<double> sums(static_cast<size_t>(units), 0.0);
  int64_t count = 0;
  const Sharding& sharding = model.parameters().sharding();
  const int64_t cp = sharding.size(Axis::cp);  // whose ranks take a unit each here
  const int64_t rank = comm ? sharding.replica() * cp + sharding.at(Axis::cp) : 0, ranks = comm ? sharding.replicas() * cp : 1;
  const auto score = [&](int64_t u, bool counts) {
    Batch b;
    source.read(0, u, b);
    scorer.batch().clear();
    for (int64_t r = 0; r < b.rows; ++r) {
      const auto at = static_cast<size_t>(r * b.seq), n = static_cast<size_t>(b.seq);
      scorer.batch().add_row(std::span(b.tokens).subspan(at, n), std::span(b.targets).subspan(at, n),
                             b.doc_starts[static_cast<size_t>(r)]);
    }
    const View loss = scorer.losses();
    for (int64_t i = 0; i < b.rows * b.seq; ++i)
      if (counts && b.targets[static_cast<size_t>(i)] >= 0)
        sums[static_cast<size_t>(u)] += static_cast<double>(loss.as<float>()[i]), ++count;
  };
  // Ranks whose weights come from one another, and those that share out experts, run as many passes as the
  // first: the last of some is for the others alone.
  const bool together_only = model.parameters().store() || sharding.size(Axis::ep) > 1;
  for (int64_t u = 0; u < units; u += ranks)
    if (const bool own = u + rank < units; own || together_only) score(own ? u + rank : u, own && sharding.speaks());
  if (comm) {
    together(*comm, "validation", [&] { check_expert_load(scorer.expert_load()); });
    add_bits(*comm, sums, "validation");  // each unit's sum is one rank's
    count = all_reduce_one(*comm, count, CommOp::sum, "validation");
  }
  check(count > 0, Code::input, "[validate] the held-out data has no target");
  double sum = 0;
  for (const double s : sums) sum += s;
  return sum / static_cast<double>(count);
}

}  // namespace llmctl
