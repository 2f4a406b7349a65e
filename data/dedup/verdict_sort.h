// SPDX-License-Identifier: Apache-2.0
// Verdicts found cluster by cluster, brought into the order of ids out of core.
#pragma once

#include <bit>
#include <tuple>

#include "data/dedup/external_sort.h"
#include "data/dedup/verdict.h"

namespace llmctl {

inline void check_priority(const DedupText& text) {
  check(text.priority <= kMaxPriority, Code::usage, "[dedup] document ", text.id, ": priority ",
        text.priority, ", at most ", kMaxPriority);
}

class VerdictSort {
 public:
  VerdictSort(const SortOptions& options, const kn::Exec& exec) : rows_(options, exec) {}

  void add(const DedupVerdict& v) {
    rows_.add({v.id, v.survivor, v.cluster_size, std::bit_cast<uint32_t>(v.similarity)});
  }
  uint64_t spilled_bytes() const { return rows_.spilled_bytes(); }
  // Error{input} when an id comes twice: ids are unique in a corpus.
  void finish(const VerdictSink& sink) {
    bool any = false;
    uint64_t last = 0;
    rows_.finish([&](const Row& r) {
      check(!any || r.id != last, Code::input, "[dedup] document id ", r.id,
            " was given more than once; number the records of a corpus once");
      any = true, last = r.id;
      sink({r.id, r.survivor, r.size, std::bit_cast<float>(static_cast<uint32_t>(r.similarity))});
    });
  }

 private:
  struct Row {
    uint64_t id, survivor, size, similarity;
  };
  struct ById {
    bool operator()(const Row& a, const Row& b) const { return a.id < b.id; }
  };
  ExternalSort<Row, ById> rows_;
};

}  // namespace llmctl
