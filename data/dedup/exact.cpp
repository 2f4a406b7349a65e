// SPDX-License-Identifier: Apache-2.0
#include "data/dedup/exact.h"

#include "core/base/digest.h"
#include "data/dedup/verdict_sort.h"
#include "data/text/simplify.h"

namespace llmctl {
namespace {

struct HashRow {
  uint64_t high, low, id, priority;
};
struct ByHash {
  bool operator()(const HashRow& a, const HashRow& b) const {
    return std::tie(a.high, a.low, a.priority, a.id) < std::tie(b.high, b.low, b.priority, b.id);
  }
};

// A cluster's size is known at its end, and its documents may be more than memory holds. So they are sorted
// once more, each cluster led by its size.
struct MemberRow {
  uint64_t survivor, is_member, value;  // value: the size, then the members' ids
};
struct BySurvivor {
  bool operator()(const MemberRow& a, const MemberRow& b) const {
    return std::tie(a.survivor, a.is_member, a.value) < std::tie(b.survivor, b.is_member, b.value);
  }
};

}  // namespace

struct ExactDedup::State {
  ExactOptions options;
  kn::Exec exec;
  ExternalSort<HashRow, ByHash> rows;
};

ExactDedup::ExactDedup(const ExactOptions& options, const kn::Exec& exec)
    : state_(new State{options, exec, {{options.folder, "exact", options.memory_bytes}, exec}}) {}
ExactDedup::~ExactDedup() = default;

void ExactDedup::add(std::span<const DedupText> batch) {
  std::vector<HashRow> rows(batch.size());
  for_each_slice(state_->exec, batch.size(), 16, [&](size_t first, size_t last) {
    std::string simple;
    for (size_t i = first; i < last; ++i) {
      check_priority(batch[i]);
      if (state_->options.simplified) simplify_text(batch[i].text, {}, simple);
      const Digest d = digest_of(state_->options.simplified ? simple : batch[i].text);
      rows[i] = {d.high, d.low, batch[i].id, batch[i].priority};
    }
  });
  for (const HashRow& row : rows) state_->rows.add(row);
}

uint64_t ExactDedup::documents() const {
  return state_->rows.rows();
}

void ExactDedup::finish(const VerdictSink& sink) {
  const ExactOptions& options = state_->options;
  ExternalSort<MemberRow, BySurvivor> members({options.folder, "exact-members", options.memory_bytes},
                                              state_->exec);
  HashRow first{};
  uint64_t size = 0;
  const auto end_cluster = [&] {
    if (size < 2) return;
    members.add({first.id, 0, size});
    members.add({first.id, 1, first.id});
  };
  state_->rows.finish([&](const HashRow& row) {
    if (size > 0 && row.high == first.high && row.low == first.low) {
      ++size;
      members.add({first.id, 1, row.id});
      return;
    }
    end_cluster();
    first = row, size = 1;
  });
  end_cluster();
  VerdictSort verdicts({options.folder, "exact-verdicts", options.memory_bytes}, state_->exec);
  members.finish([&](const MemberRow& row) {
    if (row.is_member)
      verdicts.add({row.value, row.survivor, size, 1});
    else
      size = row.value;
  });
  verdicts.finish(sink);
}

}  // namespace llmctl
