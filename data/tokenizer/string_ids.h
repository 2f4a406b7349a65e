// SPDX-License-Identifier: Apache-2.0
// Strings to ids, as vocabularies are looked up in: open addressing over one block of bytes, so that a hundred
// thousand tokens cost a few allocations and a miss costs one cache line.
// Threads: const methods from many at once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/huge_array.h"

namespace llmctl {

class StringIds {
 public:
  // False, and nothing changed, when the string has an id already.
  bool add(std::string_view text, int32_t id);
  std::optional<int32_t> find(std::string_view text) const;
  bool contains(std::string_view text) const { return find(text).has_value(); }
  size_t size() const { return entries_.size(); }
  template <class Each>
  void for_each(Each&& each) const {  // each(text, id), in the order they were added
    for (const Entry& e : entries_) each(text_of(e), e.id);
  }

 private:
  struct Entry {
    uint64_t at;
    uint32_t size;
    int32_t id;
  };
  std::string_view text_of(const Entry& e) const { return std::string_view(bytes_).substr(e.at, e.size); }
  // Of the entry, or of the free place where it belongs.
  size_t slot_of(std::string_view text, uint64_t hash) const;
  void grow();

  std::vector<Entry> entries_;
  std::string bytes_;
  HugeArray<uint64_t> slots_;  // 0: free; else the upper half of the hash, and an entry's number plus one
};

}  // namespace llmctl
