// SPDX-License-Identifier: Apache-2.0
// Base 64 of RFC 4648, standard alphabet, with padding.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace llmctl {

std::string to_base64(std::string_view bytes);
// Nothing when the text is no base 64: a stranger, a length that does not fit, padding elsewhere.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace llmctl
