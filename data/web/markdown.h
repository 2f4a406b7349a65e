// SPDX-License-Identifier: Apache-2.0
// A tree written as Markdown (CommonMark, with GitHub's tables).
#pragma once

#include <string>

#include "data/web/html_tree.h"

namespace llmctl::html {

// The subtree of `root` without what is removed. Links become their text.
std::string markdown_of(const Tree& tree, int32_t root, const ExtractOptions& options);

}  // namespace llmctl::html
