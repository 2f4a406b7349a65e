// SPDX-License-Identifier: Apache-2.0
#include "data/web/extract.h"

#include "data/web/html_scan.h"
#include "data/web/html_tree.h"
#include "data/web/main_text.h"
#include "data/web/markdown.h"

namespace llmctl {

Extracted extract_main_text(std::string_view html, const ExtractOptions& options) {
  Extracted out;
  if (html.size() > options.max_bytes) {
    out.refused = "too_large";
    return out;
  }
  html::Scan page = html::scan(html, options);
  out.title = std::move(page.title);
  out.language = std::move(page.language);
  out.date = std::move(page.date);
  out.licence = std::move(page.licence);
  out.refused = page.refused;
  if (out.refused) return out;
  html::Tree tree(page.lean, options);
  out.refused = tree.refused;
  if (out.refused) return out;
  int32_t root = 0;
  if (options.keep_all)
    html::remove_hidden(tree);
  else
    root = html::choose_main(tree, page);
  if (root >= 0 && !tree.nodes.empty()) out.text = html::markdown_of(tree, root, options);
  return out;
}

}  // namespace llmctl
