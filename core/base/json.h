// SPDX-License-Identifier: Apache-2.0
// JSON with comments, read with a depth limit and one-line errors.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/base/file.h"

namespace llmctl {

// Keeps the order of keys. An object is a plain list: looking a key up costs one pass over it, so
// walk a large object (a vocabulary) once instead of asking it for keys, and build one with append().
using Json = nlohmann::ordered_json;

// `who` names the file or request in the message: Error{input}. Refuses nesting deeper than 256,
// duplicate keys are last-wins, invalid UTF-8 is refused. Comments are allowed.
Json parse_json(std::string_view text, const std::string& who);
Json read_json(const fs::path& path, uint64_t max_bytes = uint64_t{1} << 30);

// Adds a key that the object does not have yet, in constant time; returns the value's place, which
// the next append() moves. The caller answers for the key being new.
Json& append(Json& object, std::string key, Json value);

// One line, or two spaces per level when pretty. Bytes that are not UTF-8 become U+FFFD.
std::string json_text(const Json& json, bool pretty = false);

}  // namespace llmctl
