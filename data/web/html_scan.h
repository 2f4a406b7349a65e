// SPDX-License-Identifier: Apache-2.0
// The first pass over a page: its tags as the HTML standard's tokenizer sees them (WHATWG HTML 13.2.5), and
// out of them a lean page that says the same to an extractor in a fifth of the bytes: scripts, styles,
// drawings, forms' fields and purely visual tags are gone, and the attributes of a tag have become one
// number, what they hint at. Gumbo then builds the tree of that. Nesting is capped here, because building
// a tree is quadratic in its depth.
#pragma once

#include <string>
#include <string_view>

#include "data/web/extract.h"

namespace llmctl::html {

// What class, id, role, itemprop and the like of a tag hint at.
enum Hint : uint32_t {
  kComment = 1,        // readers' comments
  kRelated = 1 << 1,   // other pages worth reading
  kShare = 1 << 2,     // sharing and following
  kNav = 1 << 3,       // menus, crumbs, page numbers
  kFooter = 1 << 4,    // of the site
  kHeader = 1 << 5,    // of the site
  kSide = 1 << 6,      // columns beside the text
  kAd = 1 << 7,        // advertisements
  kSignup = 1 << 8,    // letters, accounts, walls
  kPopup = 1 << 9,     // cookie notices and dialogs
  kCaption = 1 << 10,  // words under a picture
  kMeta = 1 << 11,     // author, date, tags
  kHidden = 1 << 12,   // not seen
  kBody = 1 << 13,     // itemprop=articleBody and class names that say the same
  kArticle = 1 << 14,  // class names of an article or post
  kMain = 1 << 15,     // class names of the page's content; role=main
  kLinked = 1 << 16,   // <a> with a target
  kTitle = 1 << 17,    // headline
  kGallery = 1 << 18,  // slides and players
  kBio = 1 << 19,      // about the author
};

struct Scan {
  std::string lean;  // with attributes h=HINTS (hex), c=COLSPAN and l=LANGUAGE of code only
  std::string title, language, date, licence;
  std::string og_title, article_body;  // og:title; JSON-LD's articleBody
  const char* refused = nullptr;
};

Scan scan(std::string_view html, const ExtractOptions& options);

// Character references decoded (those of attributes that metadata needs), runs of blanks made one.
std::string plain(std::string_view html);

}  // namespace llmctl::html
