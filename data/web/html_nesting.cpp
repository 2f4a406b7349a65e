// SPDX-License-Identifier: Apache-2.0
#include "data/web/html_nesting.h"

namespace llmctl::html {
namespace {

// Names whose start tag ends an open one of the same group (WHATWG HTML 13.1.2.4).
int group_of(std::string_view name) {
  if (name == "p") return 1;
  if (name == "li") return 2;
  if (name == "dt" || name == "dd") return 3;
  if (name == "tr") return 4;
  if (name == "td" || name == "th") return 5;
  if (name == "thead" || name == "tbody" || name == "tfoot") return 6;
  if (name == "a") return 7;
  return 0;
}

// Stays in the parser's list of formatting elements although what it stood in has ended.
bool is_formatting(std::string_view name) {
  return name == "a" || name == "code";
}

bool is_cell(std::string_view name) {
  return name == "td" || name == "th" || name == "caption";
}

// Beyond these no start tag ends an open element.
bool ends_search(std::string_view name, int group) {
  if (name == "table" || is_cell(name)) return group < 4 || group == 7 || name == "table";
  if (group == 2) return name == "ul" || name == "ol" || name == "menu" || name == "dir";
  if (group == 3) return name == "dl";
  return false;
}

}  // namespace

bool Nesting::open(std::string_view name) {
  if (const int group = group_of(name)) {
    for (size_t i = stack_.size(); i-- > 0;) {
      if (group_of(stack_[i].name) == group) {
        if (group == 7)
          erase(i);
        else
          cut_from(i);
        break;
      }
      // Other blocks in between stay open, so only a direct follower is sure to end its like.
      if (group < 4 && !is_formatting(stack_[i].name) && stack_[i].name != "p" && stack_[i].name != "span")
        break;
      if (ends_search(stack_[i].name, group)) break;
    }
  }
  if (stack_.size() >= max_depth_) return false;
  stack_.push_back({std::string(name)});
  return true;
}

void Nesting::close(std::string_view name) {
  for (size_t i = stack_.size(); i-- > 0;) {
    if (stack_[i].name == name) {
      if (is_formatting(name))
        erase(i);
      else
        cut_from(i);
      return;
    }
    const bool wall = stack_[i].name == "table" || is_cell(stack_[i].name);
    if (wall && name != "table" && name != "tr" && group_of(name) != 5 && group_of(name) != 6) return;
    if (name == "span" && !is_formatting(stack_[i].name)) return;
  }
}

void Nesting::cut_from(size_t at) {
  size_t kept = at;
  for (size_t i = at + 1; i < stack_.size(); ++i)
    if (is_formatting(stack_[i].name)) stack_[kept++] = std::move(stack_[i]);
  stack_.resize(kept);
}

}  // namespace llmctl::html
