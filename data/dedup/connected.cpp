// SPDX-License-Identifier: Apache-2.0
#include "data/dedup/connected.h"

#include <bit>

namespace llmctl {
namespace {

SortOptions part_of(SortOptions options, const char* name) {
  options.name += name;
  options.memory_bytes /= 4;
  return options;
}

// A node's parent is never after it, so a cluster's root is its first document: the survivor.
class Forest {
 public:
  explicit Forest(size_t n) : parent_(n), similarity_(n), size_(n) {
    for (size_t i = 0; i < n; ++i) parent_[i] = static_cast<uint32_t>(i);
  }
  uint32_t root(uint32_t i) {
    for (; parent_[i] != i; i = parent_[i]) parent_[i] = parent_[parent_[i]];
    return i;
  }
  void join(uint32_t a, uint32_t b, float similarity) {
    similarity_[a] = std::max(similarity_[a], similarity);
    similarity_[b] = std::max(similarity_[b], similarity);
    a = root(a), b = root(b);
    parent_[std::max(a, b)] = std::min(a, b);
  }
  void count_sizes() {
    for (uint32_t i = 0; i < parent_.size(); ++i) ++size_[root(i)];
  }
  uint32_t size(uint32_t root) const { return size_[root]; }
  float similarity(uint32_t i) const { return similarity_[i]; }

 private:
  std::vector<uint32_t> parent_;
  std::vector<float> similarity_;
  std::vector<uint32_t> size_;  // of roots
};

}  // namespace

ConnectedDocuments::ConnectedDocuments(const SortOptions& options, const kn::Exec& exec)
    : options_(options),
      exec_(exec),
      pairs_(part_of(options, "-pairs"), exec),
      names_(part_of(options, "-names"), exec) {}

void ConnectedDocuments::join(const DocumentName& a, const DocumentName& b, float similarity) {
  check(a != b, Code::input, "[dedup] document id ", a.id,
        " was given more than once; number the records of a corpus once");
  pairs_.add({std::min(a, b), std::max(a, b), std::bit_cast<uint32_t>(similarity)});
  names_.add(a);
  names_.add(b);
}

ClusterCounts ConnectedDocuments::finish(const VerdictSink& sink) {
  ClusterCounts counts;
  constexpr uint64_t kNodeBytes = sizeof(DocumentName) + 12;
  const uint64_t most = std::max(options_.memory_bytes, uint64_t{1} << 20) / 2 / kNodeBytes;
  uint64_t needed = 0;
  std::vector<DocumentName> names;  // ascending
  DocumentName last;
  names.reserve(std::min(names_.rows(), most));
  names_.finish([&](const DocumentName& name) {
    if (needed > 0 && name == last) return;
    last = name;
    if (++needed <= most) names.push_back(name);
  });
  check(needed <= most && needed < UINT32_MAX, Code::memory, "[dedup] ", needed,
        " documents have copies and take ", needed * kNodeBytes,
        " bytes while clusters are made, the limit is ", options_.memory_bytes, "; allow more memory");
  Forest forest(names.size());
  const auto number = [&](const DocumentName& name) {
    return static_cast<uint32_t>(std::lower_bound(names.begin(), names.end(), name) - names.begin());
  };
  pairs_.finish([&](const PairRow& p) {
    forest.join(number(p.a), number(p.b), std::bit_cast<float>(static_cast<uint32_t>(p.similarity)));
  });
  forest.count_sizes();
  VerdictSort verdicts({options_.folder, options_.name + "-verdicts", options_.memory_bytes / 2}, exec_);
  for (uint32_t i = 0; i < names.size(); ++i) {
    const uint32_t root = forest.root(i), size = forest.size(root);
    verdicts.add({names[i].id, names[root].id, size, forest.similarity(i)});
    counts.largest = std::max<uint64_t>(counts.largest, size);
    (root == i ? counts.clusters : counts.removed) += 1;
  }
  verdicts.finish(sink);
  counts.spilled_bytes = verdicts.spilled_bytes();
  return counts;
}

}  // namespace llmctl
