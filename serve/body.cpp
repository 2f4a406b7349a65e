// SPDX-License-Identifier: Apache-2.0
#include "serve/body.h"

#include <algorithm>
#include <cmath>

#include "serve/api_error.h"

namespace llmctl::serve {
namespace {

[[noreturn]] void wrong(const std::string& param, const std::string& expected, const Body& got) {
  std::string shown = got.dump(-1, ' ', true, Body::error_handler_t::replace);
  if (shown.size() > 60) shown = shown.substr(0, 60) + "...";
  throw ApiError(400, "'" + param + "' must be " + expected + ", not " + shown, param, "invalid_value");
}

std::string range_text(double low, double high) {
  Body a = low, b = high;
  if (low == std::floor(low)) a = static_cast<int64_t>(low);
  if (high == std::floor(high)) b = static_cast<int64_t>(high);
  return "from " + a.dump() + " to " + b.dump();
}

}  // namespace

Body parse_body(std::string_view text) {
  const auto limit = [](int depth, Body::parse_event_t, Body&) {
    if (depth > kMaxDepth)
      throw ApiError(400, "the JSON body is nested deeper than " + std::to_string(kMaxDepth) + " levels", {},
                     "invalid_json");
    return true;
  };
  Body body;
  try {
    body = Body::parse(text, limit);
  } catch (const Body::exception& e) {
    const std::string why = e.what();  // may quote as much of the body as it likes
    throw ApiError(400, "the body is not valid JSON: " + why.substr(0, 200), {}, "invalid_json");
  }
  if (!body.is_object()) throw ApiError(400, "the body must be a JSON object", {}, "invalid_json");
  return body;
}

std::string to_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

const Body* BodyFields::find(const char* name) const {
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::optional<bool> BodyFields::boolean(const char* name) const {
  const Body* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) wrong(name, "true or false", *value);
  return value->get<bool>();
}

std::optional<int64_t> BodyFields::integer(const char* name, int64_t low, int64_t high) const {
  const Body* value = find(name);
  if (!value) return std::nullopt;
  const std::string expected = "an integer from " + std::to_string(low) + " to " + std::to_string(high);
  int64_t n = 0;
  if (value->is_number_unsigned()) {
    if (value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) wrong(name, expected, *value);
    n = value->get<int64_t>();
  } else if (value->is_number_integer()) {
    n = value->get<int64_t>();
  } else if (value->is_number_float()) {  // 5.0 is what some languages send for 5
    const double x = value->get<double>();
    if (!(x == std::floor(x) && x > -9.0e15 && x < 9.0e15)) wrong(name, expected, *value);
    n = static_cast<int64_t>(x);
  } else {
    wrong(name, expected, *value);
  }
  if (n < low || n > high) wrong(name, expected, *value);
  return n;
}

std::optional<double> BodyFields::number(const char* name, double low, double high) const {
  const Body* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_number()) wrong(name, "a number " + range_text(low, high), *value);
  const double x = value->get<double>();
  if (!(x >= low && x <= high)) wrong(name, "a number " + range_text(low, high), *value);
  return x;
}

std::optional<std::string> BodyFields::string(const char* name) const {
  const Body* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_string()) wrong(name, "a string", *value);
  return value->get<std::string>();
}

void BodyFields::only(const char* name, std::initializer_list<Body> allowed, const std::string& why) const {
  const Body* value = find(name);
  if (value && std::find(allowed.begin(), allowed.end(), *value) == allowed.end())
    throw unsupported(name, "'" + std::string(name) + "' is not supported by this server: " + why);
}

std::vector<int32_t> ids_of(const Body& array, const std::string& param, int64_t vocab) {
  if (!array.is_array()) wrong(param, "an array of token ids", array);
  std::vector<int32_t> ids;
  ids.reserve(array.size());
  for (const Body& value : array) {
    const bool is_id = value.is_number_unsigned() && value.get<uint64_t>() < static_cast<uint64_t>(vocab);
    if (!is_id) wrong(param, "token ids from 0 to " + std::to_string(vocab - 1), value);
    ids.push_back(value.get<int32_t>());
  }
  return ids;
}

}  // namespace llmctl::serve
