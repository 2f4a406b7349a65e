// SPDX-License-Identifier: Apache-2.0
// One tag of the source, read as the HTML standard's tokenizer reads it (WHATWG HTML 13.2.5.8 to .40).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace llmctl::html {

struct Tag {
  std::string name;  // small letters; at most 32 bytes of it
  bool closes = false;
  // Values as they stand in the source, character references not decoded.
  std::string_view class_, id, role, itemprop, style, href, rel, type, property, meta_name, content, datetime,
      lang, colspan, http_equiv, aria_hidden, alttext;
  bool hidden = false;
  uint32_t attributes = 0;
};

// `at` stands on '<' of "<x" or "</x" (x a letter). Returns the place behind '>', or npos when the page
// ends inside the tag.
size_t read_tag(std::string_view html, size_t at, Tag& tag);

bool same_name(std::string_view a, std::string_view small);  // a in any case

// The place of the tag that ends raw content `name` ("</name" and a blank, '/' or '>'), from `at`; npos
// when there is none. A script may hold "<!-- <script> </script> -->" (13.2.5.15 to .35).
size_t end_of_raw(std::string_view html, size_t at, std::string_view name);

}  // namespace llmctl::html
