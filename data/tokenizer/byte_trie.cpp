// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/byte_trie.h"

#include <algorithm>

namespace llmctl {

namespace {

struct Open {  // a node whose entries are sorted[begin, end) and share `depth` bytes
  uint32_t node;
  size_t begin, end, depth;
};

}  // namespace

ByteTrie::ByteTrie(std::vector<std::pair<std::string_view, int32_t>> entries) : nodes_(1) {
  first_.fill(kNone);
  std::erase_if(entries, [](const auto& e) { return e.first.empty(); });
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Open> open = {{0, 0, entries.size(), 0}};
  for (size_t next = 0; next < open.size(); ++next) {  // level by level, so edges of a node lie together
    const Open at = open[next];
    size_t i = at.begin;
    for (; i < at.end && entries[i].first.size() == at.depth; ++i) nodes_[at.node].value = entries[i].second;
    nodes_[at.node].edges = static_cast<uint32_t>(labels_.size());
    while (i < at.end) {
      const char label = entries[i].first[at.depth];
      const size_t begin = i;
      while (i < at.end && entries[i].first[at.depth] == label) ++i;
      const auto child = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      labels_.push_back(static_cast<uint8_t>(label));
      children_.push_back(child);
      ++nodes_[at.node].edge_count;
      if (at.node == kRoot) first_[static_cast<uint8_t>(label)] = child;
      open.push_back({child, begin, i, at.depth + 1});
    }
  }
}

uint32_t ByteTrie::step(uint32_t node, uint8_t byte) const {
  if (node == kRoot) return first_[byte];
  const Node& n = nodes_[node];
  const auto begin = labels_.begin() + n.edges, end = begin + n.edge_count;
  const auto it = n.edge_count > 8 ? std::lower_bound(begin, end, byte) : std::find(begin, end, byte);
  return it == end || *it != byte ? kNone : children_[static_cast<size_t>(it - labels_.begin())];
}

uint32_t ByteTrie::walk(uint32_t node, std::string_view bytes) const {
  for (size_t i = 0; i < bytes.size() && node != kNone; ++i)
    node = step(node, static_cast<uint8_t>(bytes[i]));
  return node;
}

ByteTrie::Hit ByteTrie::longest(std::string_view text, uint32_t node) const {
  Hit hit;
  for (size_t i = 0; i < text.size() && node != kNone; ++i) {
    node = step(node, static_cast<uint8_t>(text[i]));
    if (node != kNone && nodes_[node].value >= 0) hit = {i + 1, nodes_[node].value};
  }
  return hit;
}

}  // namespace llmctl
