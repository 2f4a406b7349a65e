// SPDX-License-Identifier: Apache-2.0
// What the names in class, id, role and itemprop hint at, word by word.
#pragma once

#include <cstdint>
#include <string_view>

namespace llmctl::html {

// The Hint bits of a value: its words are cut at what is no letter or digit and where a capital follows a
// small letter ("postBody" is post, body), and looked up.
uint32_t hints_of(std::string_view value);
uint32_t role_hints(std::string_view role);

}  // namespace llmctl::html
