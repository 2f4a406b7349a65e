// SPDX-License-Identifier: Apache-2.0
// A mapped model file, and how its trie is read. Nothing in the file is trusted: a child range that lies is
// empty, a word that is none is unknown.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "data/quality/ngram_file.h"

namespace llmctl {

struct NgramModel::State {
  using Backoffs = std::array<double, kMaxOrder + 1>;  // by length of the context
  explicit State(const fs::path& path);
  NgramNode node(int n, uint64_t i) const;  // i <= counts[n - 1]
  std::string_view word(uint32_t id) const;
  uint32_t id(std::string_view token) const;
  uint64_t child(int n, uint64_t i, uint32_t word_id) const;
  double step(const uint32_t* history, size_t length, Backoffs& backoffs) const;

  FileMap map;
  int order = 0;
  NgramUnit unit = NgramUnit::words;
  uint64_t words = 0;
  std::vector<uint64_t> counts;
  std::vector<const char*> nodes;
  const char* index = nullptr;
  const char* offsets = nullptr;
  std::string_view text;
};

}  // namespace llmctl
