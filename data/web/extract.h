// SPDX-License-Identifier: Apache-2.0
// The main text of an HTML page as Markdown: headings, lists, tables, code blocks and quotes kept; menus,
// related links, comments, sharing bars, cookie notices and the like left out. The tree is built by gumbo
// (HTML5). No limit is a clock: the same page gives the same text on any machine.
//
// Depth: elements deeper than max_depth lose their tags and keep their text, before the tree is built
// (building it is quadratic in the depth). Tables with more than max_cells cells are written as lines.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace llmctl {

struct ExtractOptions {
  uint64_t max_bytes = uint64_t{16} << 20;  // of HTML: refused "too_large"
  uint32_t max_depth = 512;                 // as browsers do
  uint32_t max_nodes = 1000000;             // of the tree: refused "too_many_nodes"
  uint32_t max_attributes = 1024;  // of one tag (their number is quadratic): refused "too_many_attributes"
  uint32_t max_cells = 20000;      // of one table
  bool markdown = true;            // false: the same text without marks
  bool keep_all = false;           // everything visible, no boilerplate removal
};

struct Extracted {
  std::string text;               // UTF-8; "" when the page has no main text
  std::string title, language;    // of the page: <title> or its metadata; <html lang>
  std::string date, licence;      // as published, when the page says so; rel=license
  const char* refused = nullptr;  // a limit's name, then text is ""
};

// `html` is UTF-8 (read_records makes it so). Never throws on content; memory about 60 bytes a byte of HTML
// at worst. Any number of threads.
Extracted extract_main_text(std::string_view html, const ExtractOptions& options = {});

}  // namespace llmctl
