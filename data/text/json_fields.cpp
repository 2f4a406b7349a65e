// SPDX-License-Identifier: Apache-2.0
#include "data/text/json_fields.h"

namespace llmctl {

const Json& field(const Json& object, const char* key) {
  check(object.is_object(), Code::input, "[tokenizer] found ", object.type_name(), " where an object with '",
        key, "' is needed");
  const auto it = object.find(key);
  check(it != object.end(), Code::input, "[tokenizer] field '", key, "' is missing");
  return *it;
}

std::string string_field(const Json& object, const char* key) {
  const Json& value = field(object, key);
  check(value.is_string(), Code::input, "[tokenizer] field '", key, "' is ", value.type_name(),
        ", not a string");
  return value.get<std::string>();
}

bool bool_field(const Json& object, const char* key, bool fallback) {
  check(object.is_object(), Code::input, "[tokenizer] found ", object.type_name(),
        " where an object is needed");
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return fallback;
  check(it->is_boolean(), Code::input, "[tokenizer] field '", key, "' is ", it->type_name(),
        ", not true or false");
  return it->get<bool>();
}

int64_t int_field(const Json& object, const char* key, int64_t low, int64_t high) {
  const Json& value = field(object, key);
  check(value.is_number_integer(), Code::input, "[tokenizer] field '", key, "' is ", value.type_name(),
        ", not an integer");
  const bool too_large =
      value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  const int64_t number = too_large ? INT64_MAX : value.get<int64_t>();
  check(number >= low && number <= high, Code::input, "[tokenizer] field '", key, "' is ", number,
        ", not in ", low, "..", high);
  return number;
}

std::string type_field(const Json& object) {
  return string_field(object, "type");
}

}  // namespace llmctl
