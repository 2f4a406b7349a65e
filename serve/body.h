// SPDX-License-Identifier: Apache-2.0
// JSON from strangers: a body is parsed under limits, and its fields are read with one rule.
// Unknown fields are ignored; null means absent; a known field of the wrong type or out of range is
// a 400 that names it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"

namespace llmctl::serve {

// Not ordered_json: that looks a key up by walking, which a body of a million keys would abuse.
using Body = nlohmann::json;

constexpr int kMaxDepth = 64;

// The object in a request body. ApiError{400} for bad JSON, invalid UTF-8, nesting deeper than
// kMaxDepth, or anything but an object.
Body parse_body(std::string_view text);
// One line; bytes that are not UTF-8 become U+FFFD.
std::string to_text(const Json& json);

class BodyFields {
 public:
  // object must outlive this.
  explicit BodyFields(const Body& object) : object_(object) {}
  const Body* find(const char* name) const;  // nullptr when absent or null
  std::optional<bool> boolean(const char* name) const;
  std::optional<int64_t> integer(const char* name, int64_t low, int64_t high) const;
  std::optional<double> number(const char* name, double low, double high) const;
  std::optional<std::string> string(const char* name) const;
  // ApiError{400, unsupported} when the field is there with another value than one of `allowed`.
  void only(const char* name, std::initializer_list<Body> allowed, const std::string& why) const;

 private:
  const Body& object_;
};

// ids in [0, vocab); ApiError{400} naming param.
std::vector<int32_t> ids_of(const Body& array, const std::string& param, int64_t vocab);

}  // namespace llmctl::serve
