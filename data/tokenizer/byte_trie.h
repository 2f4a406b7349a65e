// SPDX-License-Identifier: Apache-2.0
// A set of byte strings with a number each, walked byte by byte: every entry that begins a text is
// found in one pass over it. Threads: const after construction.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llmctl {

class ByteTrie {
 public:
  static constexpr uint32_t kRoot = 0, kNone = UINT32_MAX;
  ByteTrie() : ByteTrie(std::vector<std::pair<std::string_view, int32_t>>{}) {}
  // Of equal strings the last one counts; empty ones are left out.
  explicit ByteTrie(std::vector<std::pair<std::string_view, int32_t>> entries);

  uint32_t step(uint32_t node, uint8_t byte) const;                  // kNone: no entry goes on so
  int32_t value(uint32_t node) const { return nodes_[node].value; }  // -1: no entry ends here
  // The node of a prefix, or kNone.
  uint32_t walk(uint32_t node, std::string_view bytes) const;
  struct Hit {
    size_t size = 0;  // bytes
    int32_t value = -1;
  };
  // The longest entry that begins `text`, walked from `node`.
  Hit longest(std::string_view text, uint32_t node = kRoot) const;

 private:
  struct Node {
    uint32_t edges = 0;  // first of edge_count in labels_ and children_, ascending
    uint16_t edge_count = 0;
    int32_t value = -1;
  };
  std::vector<Node> nodes_;
  std::vector<uint8_t> labels_;
  std::vector<uint32_t> children_;
  std::array<uint32_t, 256> first_{};  // children of the root
};

}  // namespace llmctl
