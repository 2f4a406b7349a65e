// SPDX-License-Identifier: Apache-2.0
// How deep the tree of a page will be, counted while its tags are read and never less than the parser's own
// count: what is in doubt (who closes whom) counts as open.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llmctl::html {

class Nesting {
 public:
  explicit Nesting(uint32_t max_depth) : max_depth_(max_depth) {}
  // False: the element would be too deep, leave its tag out.
  bool open(std::string_view name);
  void close(std::string_view name);

 private:
  struct Open {
    std::string name;
  };
  void erase(size_t at) { stack_.erase(stack_.begin() + static_cast<std::ptrdiff_t>(at)); }
  void cut_from(size_t at);
  std::vector<Open> stack_;
  uint32_t max_depth_;
};

}  // namespace llmctl::html
