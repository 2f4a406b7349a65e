// SPDX-License-Identifier: Apache-2.0
// What the scanner does with each element, by its name in small letters.
#pragma once

#include <cstdint>
#include <string_view>

namespace llmctl::html {

enum class TagUse : uint8_t {
  keep,       // goes to the tree
  keep_void,  // br, hr
  mute,       // the tag goes, its content stays: purely visual elements
  mark,       // kept only when it carries a hint: span and elements that the standard does not name
  drop_void,  // no content: img, input, ...
  drop,       // goes with its content
  raw,        // content is no markup and goes: script, style, ...
  title,
};

struct TagRule {
  std::string_view name;
  TagUse use;
};

// A name of no rule is {name, mark}.
TagRule rule_of(std::string_view name);

}  // namespace llmctl::html
