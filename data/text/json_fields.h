// SPDX-License-Identifier: Apache-2.0
// Typed reads from the JSON of a tokenizer file: Error{input} naming the field when it is missing
// or of another type.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/json.h"

namespace llmctl {

const Json& field(const Json& object, const char* key);
std::string string_field(const Json& object, const char* key);
// Absent or null gives the fallback.
bool bool_field(const Json& object, const char* key, bool fallback);
int64_t int_field(const Json& object, const char* key, int64_t low, int64_t high);
// The "type" of a component, for dispatch and for messages.
std::string type_field(const Json& object);

}  // namespace llmctl
