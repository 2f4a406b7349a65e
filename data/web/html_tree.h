// SPDX-License-Identifier: Apache-2.0
// A page's tree as a flat list in the order of the text, with sums over subtrees: what the choice of the
// main text and the writing of Markdown walk over, without recursion.
#pragma once

#include <gumbo.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/web/html_scan.h"

namespace llmctl::html {

struct Node {
  GumboTag tag = GUMBO_TAG_UNKNOWN;  // GUMBO_TAG_LAST for text
  uint32_t hints = 0;
  uint32_t columns = 1;                // colspan of a cell
  int32_t parent = -1, end = 0;        // nodes [own index, end) are the subtree
  int32_t block = -1;                  // of text: its number in Tree::blocks
  bool removed = false;                // with its subtree
  std::string_view text;               // of text; of <code> and <pre> the language
  uint32_t chars = 0, link_chars = 0;  // of the subtree: code points that are no blanks, those inside links
  bool is_text() const { return tag == GUMBO_TAG_LAST; }
};

// Text that no block element interrupts: a paragraph, a heading, an item of a list.
struct Block {
  int32_t node = 0;             // the block element around it
  int32_t first = 0, last = 0;  // text nodes
  uint32_t chars = 0, link_chars = 0;
  uint32_t marks = 0;  // , . ! ? and their like in other scripts
  bool ends_sentence = false;
};

class Tree {
 public:
  Tree(const std::string& lean, const ExtractOptions& options);  // `lean` must outlive the tree
  const char* refused = nullptr;
  std::vector<Node> nodes;  // [0] is <html>
  std::vector<Block> blocks;

  // The nearest ancestor or self with the tag; -1 for none.
  int32_t inside(int32_t node, GumboTag tag) const;

 private:
  struct Arena;
  void flatten(const GumboNode* root, const ExtractOptions& options);
  void count();
  std::shared_ptr<Arena> arena_;
};

bool is_block(GumboTag tag);
int heading_level(GumboTag tag);  // 1..6, 0 for others

}  // namespace llmctl::html
