// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <climits>
#include <queue>

#include "data/text/utf8.h"
#include "kernels/error.h"

namespace llmctl {

namespace {

constexpr uint64_t kEmpty = ~uint64_t{0};
constexpr size_t kScanLimit = 48;  // below this scanning beats a heap

uint64_t pair_key(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

}  // namespace

MergeTable::MergeTable(size_t merges) {
  const size_t slots = std::bit_ceil(std::max<size_t>(2, merges * 2 + 1));
  keys_.assign(slots, kEmpty);
  values_.resize(slots);
  shift_ = 64 - std::countr_zero(slots);
}

size_t MergeTable::slot_of(uint64_t key) const {
  size_t slot = static_cast<size_t>((key * 0x9E3779B97F4A7C15ull) >> shift_);
  while (keys_[slot] != kEmpty && keys_[slot] != key) slot = (slot + 1) & (keys_.size() - 1);
  return slot;
}

void MergeTable::set(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = pair_key(left, right);
  const size_t slot = slot_of(key);
  keys_[slot] = key;
  values_[slot] = merge;
}

Merge MergeTable::find(int32_t left, int32_t right) const {
  return values_[slot_of(pair_key(left, right))];
}

namespace {

void merge_by_scan(const MergeTable& merges, std::vector<int32_t>& symbols) {
  std::array<Merge, kScanLimit> pair;  // of symbols i and i + 1
  size_t n = symbols.size();
  for (size_t i = 0; i + 1 < n; ++i) pair[i] = merges.find(symbols[i], symbols[i + 1]);
  while (n > 1) {
    size_t best = n;
    int32_t rank = INT_MAX;
    for (size_t i = 0; i + 1 < n; ++i) {
      if (pair[i].rank >= 0 && pair[i].rank < rank) {
        rank = pair[i].rank;
        best = i;
      }
    }
    if (best == n) break;
    symbols[best] = pair[best].id;
    for (size_t i = best + 1; i + 1 < n; ++i) {
      symbols[i] = symbols[i + 1];
      pair[i] = pair[i + 1];  // the last of these is past the end and never read
    }
    --n;
    if (best > 0) pair[best - 1] = merges.find(symbols[best - 1], symbols[best]);
    if (best + 1 < n) pair[best] = merges.find(symbols[best], symbols[best + 1]);
  }
  symbols.resize(n);
}

struct Candidate {
  int32_t rank, id;
  uint32_t at;
  bool operator>(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
};

// A doubly linked list over the symbols; heap entries made stale by a neighbour's join are skipped.
void merge_by_heap(const MergeTable& merges, std::vector<int32_t>& symbols) {
  const auto n = static_cast<uint32_t>(symbols.size());
  std::vector<uint32_t> next(n), previous(n);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto offer = [&](uint32_t at) {
    if (at >= n || next[at] >= n) return;
    const Merge merge = merges.find(symbols[at], symbols[next[at]]);
    if (merge.rank >= 0) heap.push({merge.rank, merge.id, at});
  };
  for (uint32_t i = 0; i < n; ++i) {
    next[i] = i + 1;
    previous[i] = i == 0 ? n : i - 1;
  }
  for (uint32_t i = 0; i < n; ++i) offer(i);
  while (!heap.empty()) {
    const Candidate top = heap.top();
    heap.pop();
    if (symbols[top.at] < 0 || next[top.at] >= n) continue;
    const uint32_t right = next[top.at];
    const Merge now = merges.find(symbols[top.at], symbols[right]);
    if (now.rank != top.rank || now.id != top.id) continue;
    symbols[top.at] = top.id;
    symbols[right] = -1;
    next[top.at] = next[right];
    if (next[right] < n) previous[next[right]] = top.at;
    offer(previous[top.at]);
    offer(top.at);
  }
  std::erase(symbols, -1);
}

}  // namespace

void merge_symbols(const MergeTable& merges, std::vector<int32_t>& symbols) {
  check(symbols.size() < UINT32_MAX, Code::input, "[tokenizer] piece of ", symbols.size(),
        " symbols is too long");
  if (symbols.size() <= kScanLimit)
    merge_by_scan(merges, symbols);
  else
    merge_by_heap(merges, symbols);
}

void Bpe::symbols_of_bytes(std::string_view piece, std::vector<int32_t>& out) const {
  for (const char c : piece) {
    const int32_t id = byte_ids[static_cast<uint8_t>(c)];
    check(id >= 0, Code::input, "[tokenizer] byte ", static_cast<int>(static_cast<uint8_t>(c)),
          " is not in the vocabulary, and text that holds it cannot be encoded");
    out.push_back(id);
  }
}

void Bpe::symbols_of_text(std::string_view piece, std::vector<int32_t>& out) const {
  bool open_unk = false;  // the last symbol is an unknown one that may grow
  for (size_t at = 0; at < piece.size();) {
    const CodePoint point = code_point_at(piece, at);
    const std::string_view symbol = piece.substr(at, point.kind == CodePoint::Kind::valid ? point.bytes : 1);
    at += symbol.size();
    if (const auto known = ids.find(symbol)) {
      out.push_back(*known);
      open_unk = false;
      continue;
    }
    bool spelled = byte_fallback;
    for (const char c : symbol) spelled = spelled && byte_ids[static_cast<uint8_t>(c)] >= 0;
    if (spelled) {
      for (const char c : symbol) out.push_back(byte_ids[static_cast<uint8_t>(c)]);
      open_unk = false;
      continue;
    }
    check(unk >= 0, Code::input, "[tokenizer] '", symbol,
          "' is not in the vocabulary and there is no unknown token");
    if (!(open_unk && fuse_unk)) out.push_back(unk);
    open_unk = true;
  }
}

void Bpe::encode(std::string_view piece, std::vector<int32_t>& out) const {
  if (ignore_merges) {
    if (const auto whole = ids.find(piece)) {
      out.push_back(*whole);
      return;
    }
  }
  std::vector<int32_t> symbols;
  symbols.reserve(piece.size());
  if (byte_level)
    symbols_of_bytes(piece, symbols);
  else
    symbols_of_text(piece, symbols);
  merge_symbols(merges, symbols);
  out.insert(out.end(), symbols.begin(), symbols.end());
}

}  // namespace llmctl
