// SPDX-License-Identifier: Apache-2.0
// What every kind of deduplication takes and gives. Of the copies of a document the one with the
// smallest (priority, id) survives, so the answer knows neither threads nor the order of arrival, and
// cluster sizes are kept: a corpus can be filled up again by them ("re-hydration", FineWeb-2).
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace llmctl {

constexpr uint32_t kMaxPriority = (uint32_t{1} << 20) - 1;

struct DedupText {
  uint64_t id = 0;        // Record::id(); unique in the corpus
  uint32_t priority = 0;  // smaller is kept; at most kMaxPriority
  std::string_view text;  // any bytes; must live until add() returns
};

// Of a document that has copies. Documents that are in no verdict have none and survive.
struct DedupVerdict {
  uint64_t id = 0, survivor = 0;  // survives itself when they are equal
  uint64_t cluster_size = 0;      // documents in the cluster, the survivor too; at least 2
  float similarity = 1;           // the largest that was measured to another document of the cluster
  bool survives() const { return id == survivor; }
  bool operator==(const DedupVerdict&) const = default;
};
// Called in ascending order of id, from the calling thread.
using VerdictSink = std::function<void(const DedupVerdict&)>;

}  // namespace llmctl
