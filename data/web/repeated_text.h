// SPDX-License-Identifier: Apache-2.0
// What a page says twice (copies for machines, print versions) and rows of teasers for other pages.
#pragma once

#include "data/web/html_tree.h"

namespace llmctl::html {

// Inside `root`: removes prose blocks that an earlier block says word for word, and large blocks of which
// four fifths of the 6-word shingles stand in the others.
void remove_repeats(Tree& tree, int32_t root);

// Inside `root`: removes boxes of a linked title and at most two blocks below it, when there are three or
// more of them, they are not nearly all of the text, and little prose stands between or behind them (a list
// of recommendations inside an article stays).
void remove_teasers(Tree& tree, int32_t root);

}  // namespace llmctl::html
