// SPDX-License-Identifier: Apache-2.0
#include "data/web/repeated_text.h"

#include <algorithm>
#include <unordered_set>

namespace llmctl::html {
namespace {

constexpr uint32_t kWords = 25, kProse = 150, kLarge = 1500, kTeaser = 700;
constexpr size_t kShingle = 6;

struct Reader {
  Tree& tree;
  std::vector<bool> gone;  // removed or below something removed

  Reader(Tree& t, int32_t root) : tree(t), gone(t.nodes.size(), false) {
    for (auto i = static_cast<size_t>(root) + 1;
         i < static_cast<size_t>(t.nodes[static_cast<size_t>(root)].end); ++i)
      gone[i] = t.nodes[i].removed || gone[static_cast<size_t>(t.nodes[i].parent)];
  }
  bool live(const Block& b, int32_t root) const {
    return b.chars > 0 && b.first > root && b.last < tree.nodes[static_cast<size_t>(root)].end &&
           !gone[static_cast<size_t>(b.first)];
  }
  // Hashes of the words (FNV-1a over runs of letters, digits and anything beyond ASCII).
  std::vector<uint64_t> words(const Block& b) const {
    constexpr uint64_t kStart = 14695981039346656037u, kPrime = 1099511628211u;
    std::vector<uint64_t> out;
    uint64_t hash = kStart;
    const auto finish = [&] {
      if (hash != kStart) out.push_back(hash);
      hash = kStart;
    };
    for (int32_t i = b.first; i <= b.last; ++i) {
      const Node& n = tree.nodes[static_cast<size_t>(i)];
      if (!n.is_text()) continue;
      for (const char c : n.text) {
        const auto u = static_cast<unsigned char>(c);
        const bool word =
            u >= 0x80 || (u >= '0' && u <= '9') || (u >= 'A' && u <= 'Z') || (u >= 'a' && u <= 'z');
        if (word)
          hash = (hash ^ u) * kPrime;
        else
          finish();
      }
    }
    finish();
    return out;
  }
  void remove(const Block& b) {
    for (int32_t i = b.first; i <= b.last; ++i)
      if (tree.nodes[static_cast<size_t>(i)].is_text()) tree.nodes[static_cast<size_t>(i)].removed = true;
  }
};

uint64_t mixed(const uint64_t* words, size_t n) {
  uint64_t h = 0;
  for (size_t i = 0; i < n; ++i) h = (h ^ words[i]) * 0x9E3779B97F4A7C15u + (h >> 29);
  return h;
}

}  // namespace

void remove_repeats(Tree& tree, int32_t root) {
  Reader reader(tree, root);
  std::unordered_set<uint64_t> seen;
  std::vector<const Block*> large, kept;
  for (const Block& b : tree.blocks) {
    if (!reader.live(b, root) || b.chars < kWords) continue;
    const std::vector<uint64_t> words = reader.words(b);
    if (b.chars >= kProse && !seen.insert(mixed(words.data(), words.size())).second) {
      reader.remove(b);
      continue;
    }
    (b.chars >= kLarge ? large : kept).push_back(&b);
  }
  if (large.empty() || kept.empty()) return;
  std::unordered_set<uint64_t> shingles;
  for (const Block* b : kept) {
    const std::vector<uint64_t> words = reader.words(*b);
    for (size_t i = 0; i + kShingle <= words.size(); ++i) shingles.insert(mixed(&words[i], kShingle));
  }
  for (const Block* b : large) {
    const std::vector<uint64_t> words = reader.words(*b);
    size_t all = 0, found = 0;
    for (size_t i = 0; i + kShingle <= words.size(); ++i, ++all)
      found += shingles.count(mixed(&words[i], kShingle));
    if (all > 0 && found * 5 >= all * 4) reader.remove(*b);
  }
}

void remove_teasers(Tree& tree, int32_t root) {
  Reader reader(tree, root);
  std::vector<int32_t> boxes;
  int32_t behind = 0;                      // the end of the last box
  uint32_t chars = 0, all = 0, since = 0;  // since: prose behind the first of the boxes that is in none
  const auto& blocks = tree.blocks;
  for (size_t k = 0; k < blocks.size(); ++k) {
    if (!reader.live(blocks[k], root)) continue;
    all += blocks[k].chars;
    if (!boxes.empty() && blocks[k].first >= behind && blocks[k].chars >= kTeaser / 5)
      since += blocks[k].chars;
    const bool title = blocks[k].chars >= 15 && blocks[k].link_chars * 10 >= blocks[k].chars * 8;
    if (!title) continue;
    // the largest element around the title that holds at most two blocks more and little text
    int32_t box = -1;
    for (int32_t i = blocks[k].node; i > root; i = tree.nodes[static_cast<size_t>(i)].parent) {
      const Node& n = tree.nodes[static_cast<size_t>(i)];
      size_t held = 0;
      for (size_t j = k + 1; j < blocks.size() && blocks[j].last < n.end && held <= 2; ++j)
        held += reader.live(blocks[j], root);
      const bool first = k == 0 || blocks[k - 1].last < i;
      if (held > 2 || n.chars > kTeaser || !first) break;
      if (held > 0) box = i;
    }
    if (box < 0) continue;
    behind = tree.nodes[static_cast<size_t>(box)].end;
    since -= std::min(since, blocks[k].chars);
    boxes.push_back(box);
    chars += tree.nodes[static_cast<size_t>(box)].chars;
  }
  if (boxes.size() < 3 || chars * 4 > all * 3 || since * 4 > chars) return;
  for (const int32_t i : boxes) tree.nodes[static_cast<size_t>(i)].removed = true;
}

}  // namespace llmctl::html
