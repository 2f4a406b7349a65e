// SPDX-License-Identifier: Apache-2.0
// Which part of a page is its main text. Two steps over sums of the tree: the subtree whose blocks of prose
// outweigh its blocks of links and labels the most, then, inside it, what is not prose of this page goes.
#pragma once

#include "data/web/html_tree.h"

namespace llmctl::html {

// Marks what is left out as removed and returns the node of the main text; -1 when there is none.
int32_t choose_main(Tree& tree, const Scan& page);

// Removes only what no reader sees.
void remove_hidden(Tree& tree);

}  // namespace llmctl::html
