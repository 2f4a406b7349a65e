// SPDX-License-Identifier: Apache-2.0
// What a page says about itself: <title>, <meta>, rel=license, <time>, JSON-LD (schema.org).
#pragma once

#include <string>
#include <string_view>

#include "data/web/html_scan.h"
#include "data/web/html_tag.h"

namespace llmctl::html {

class Metadata {
 public:
  void see(const Tag& tag);              // every start tag
  void title(std::string_view content);  // of <title>; the first counts
  void script(std::string_view type, std::string_view content);
  void finish(Scan& scan);

 private:
  // A field keeps what the best source says: a lower rank wins, of one rank the first.
  struct Field {
    std::string value;
    int rank = 100;
    void offer(int r, std::string_view v);
  };
  void meta(const Tag& tag);
  Field title_, og_title_, language_, date_, licence_, body_;
};

}  // namespace llmctl::html
