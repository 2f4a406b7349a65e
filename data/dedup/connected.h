// SPDX-License-Identifier: Apache-2.0
// Documents joined by verified pairs, and the clusters they make: connected components by union-find over
// the documents that are in a pair (28 bytes each, within half of the memory limit; pairs lie on disk).
#pragma once

#include <tuple>

#include "data/dedup/external_sort.h"
#include "data/dedup/verdict_sort.h"

namespace llmctl {

struct DocumentName {
  uint64_t priority = 0, id = 0;
  auto operator<=>(const DocumentName&) const = default;
};

struct ClusterCounts {
  uint64_t clusters = 0, removed = 0, largest = 0, spilled_bytes = 0;
};

// Threads: one.
class ConnectedDocuments {
 public:
  ConnectedDocuments(const SortOptions& options, const kn::Exec& exec);
  // a and b are copies, alike to that degree; the same pair may come more than once.
  void join(const DocumentName& a, const DocumentName& b, float similarity);
  uint64_t spilled_bytes() const { return pairs_.spilled_bytes() + names_.spilled_bytes(); }
  // Once. Error{memory} when the documents in pairs do not fit, saying what they take.
  ClusterCounts finish(const VerdictSink& sink);

 private:
  struct PairRow {
    DocumentName a, b;
    uint64_t similarity;
  };
  struct InOrder {
    bool operator()(const PairRow& x, const PairRow& y) const {
      return std::tie(x.a, x.b) < std::tie(y.a, y.b);
    }
    bool operator()(const DocumentName& x, const DocumentName& y) const { return x < y; }
  };
  SortOptions options_;
  kn::Exec exec_;
  ExternalSort<PairRow, InOrder> pairs_;
  ExternalSort<DocumentName, InOrder> names_;
};

}  // namespace llmctl
