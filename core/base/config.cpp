// SPDX-License-Identifier: Apache-2.0
#include "core/base/config.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace llmctl {
namespace {

size_t edits(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::string shown(const Json& v) {
  std::string text = json_text(v);
  return text.size() <= 60 ? text : text.substr(0, 57) + "...";
}

[[noreturn]] void expected(const char* what, const Json& v) {
  throw Error(Code::input, std::string("expected ") + what + ", got " + shown(v));
}

// What a person typed, as the JSON a file would hold.
Json typed_value(const Field& field, std::string_view text) {
  if (field.is_text) return std::string(text);
  auto scalar = [](std::string_view t) {
    if (Json::accept(t.begin(), t.end())) return parse_json(t, "value");
    return Json(std::string(t));  // the field says what it expected instead
  };
  if (!field.is_list || text.substr(0, 1) == "[") return scalar(text);
  Json list = Json::array();
  while (!text.empty()) {
    size_t comma = std::min(text.find(','), text.size());
    std::string_view item = text.substr(0, comma);
    list.push_back(field.list_of_text ? Json(std::string(item)) : scalar(item));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return list;
}

// Whole numbers in full: 1048576, not 1.04858e+06.
std::string limit(double x) {
  char text[64];
  const bool whole = x == std::floor(x) && std::fabs(x) <= 1e12;
  const auto end = whole ? std::to_chars(text, text + sizeof text, static_cast<int64_t>(x)).ptr
                         : std::to_chars(text, text + sizeof text, x).ptr;
  return std::string(text, end);
}

void check_limits(const Field& field, const Json& v) {
  if (v.is_array())
    for (const Json& item : v) check_limits(field, item);
  if (v.is_number()) {
    double x = v.get<double>();
    check(x >= field.low && x <= field.high, Code::input, shown(v), " is outside ", limit(field.low), " to ",
          limit(field.high));
  }
  if (!v.is_string() || field.allowed.empty()) return;
  auto text = v.get<std::string>();
  if (std::find(field.allowed.begin(), field.allowed.end(), text) != field.allowed.end()) return;
  std::string list;
  for (const auto& a : field.allowed) list += (list.empty() ? "" : ", ") + a;
  throw Error(Code::input, shown(v) + " is none of " + list);
}

}  // namespace

namespace config_detail {

bool bool_from(const Json& v) {
  if (v.is_boolean()) return v.get<bool>();
  if (v.is_number_integer() && (v == 0 || v == 1)) return v == 1;
  expected("true or false", v);
}
double number_from(const Json& v) {
  if (!v.is_number()) expected("a number", v);
  return v.get<double>();
}
int64_t int_from(const Json& v, int64_t low, int64_t high) {
  if (v.is_number_unsigned() && v.get<uint64_t>() > static_cast<uint64_t>(high))
    expected("a smaller integer", v);
  int64_t out = 0;
  if (v.is_number_integer()) {
    out = v.get<int64_t>();
  } else {  // 1e6 is an integer to everybody but the parser
    double x = number_from(v);
    if (x != std::floor(x) || std::fabs(x) > 9007199254740992.0) expected("an integer", v);
    out = static_cast<int64_t>(x);
  }
  if (out < low || out > high) expected("an integer in range", v);
  return out;
}
uint64_t unsigned_from(const Json& v, uint64_t high) {
  if (!v.is_number_unsigned())
    return static_cast<uint64_t>(int_from(v, 0, std::numeric_limits<int64_t>::max()));
  auto out = v.get<uint64_t>();
  if (out > high) expected("a smaller integer", v);
  return out;
}
std::string text_from(const Json& v) {
  if (!v.is_string()) expected("text", v);
  return v.get<std::string>();
}
const Json& list_from(const Json& v) {
  if (!v.is_array()) expected("a list", v);
  return v;
}
double shortest_double(float v) {
  char text[32];
  auto end = std::to_chars(text, text + sizeof text, v).ptr;
  double out = 0;
  std::from_chars(text, end, out);
  return out;
}

}  // namespace config_detail

std::string closest_name(std::string_view name, const std::vector<std::string>& candidates) {
  std::string best;
  size_t fewest = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    // The last part alone may match: "beta1" for "optimizer.beta1".
    std::string_view tail = std::string_view(candidate).substr(candidate.rfind('.') + 1);
    size_t n = std::min(edits(name, candidate), tail == name ? size_t{0} : edits(name, tail) + 1);
    if (n < fewest) {
      fewest = n;
      best = candidate;
    }
  }
  return best;
}

std::string variable_of(std::string_view name) {
  std::string out = "LLMCTL_";
  for (char c : name.substr(std::min(name.find_first_not_of('-'), name.size())))
    out += std::isalnum(static_cast<unsigned char>(c))
               ? static_cast<char>(std::toupper(static_cast<unsigned char>(c)))
               : '_';
  return out;
}

Field* Fields::find(std::string_view path) {
  for (Field& f : fields_)
    if (f.path == path) return &f;
  return nullptr;
}

void Fields::unknown(std::string_view path, const std::string& source, Code code) const {
  std::vector<std::string> names;
  for (const Field& f : fields_) names.push_back(f.path);
  std::string near = closest_name(path, names);
  throw Error(code, "[config] " + (source.empty() ? "" : source + ": ") + "unknown field " +
                        std::string(path) + (near.empty() ? "" : "; did you mean " + near + "?"));
}

void Fields::read_value(Field& field, const Json& value, const std::string& source, Code code) {
  try {
    check_limits(field, value);
    field.from_json(value);
  } catch (const Error& e) {
    std::string text = e.what();
    if (text.rfind("[config] ", 0) == 0) text = text.substr(9);  // from a nested object
    throw Error(code, "[config] " + (source.empty() ? "" : source + ": ") + field.path + ": " + text);
  }
}

void Fields::read_object(const Json& object, const std::string& prefix, const std::string& source,
                         Code code) {
  if (!object.is_object())
    throw Error(code, "[config] " + (source.empty() ? "" : source + ": ") +
                          (prefix.empty() ? "" : prefix.substr(0, prefix.size() - 1) + ": ") +
                          "expected an object, got " + shown(object));
  for (const auto& [key, value] : object.items()) {
    std::string path = prefix + key;
    if (Field* field = find(path)) {
      read_value(*field, value, source, code);
      continue;
    }
    std::string inner = path + ".";
    bool is_group = std::any_of(fields_.begin(), fields_.end(),
                                [&](const Field& f) { return f.path.compare(0, inner.size(), inner) == 0; });
    if (!is_group) unknown(path, source, code);
    read_object(value, inner, source, code);
  }
}

void Fields::read(const Json& object, const std::string& source, Code code) {
  read_object(object, "", source, code);
}

void Fields::assign(std::string_view path, std::string_view text, Code code, const std::string& source) {
  Field* field = find(path);
  if (!field) unknown(path, source, code);
  read_value(*field, typed_value(*field, text), source, code);
}

void Fields::assign_set(std::string_view assignment) {
  size_t equals = assignment.find('=');
  check(equals != std::string_view::npos && equals > 0, Code::usage, "[config] --set ", assignment,
        ": write it as field=value");
  assign(assignment.substr(0, equals), assignment.substr(equals + 1), Code::usage, "--set");
}

void Fields::assign_environment() {
  for (size_t i = 0; i < fields_.size(); ++i) {
    std::string name = variable_of(fields_[i].path);
    const char* text = std::getenv(name.c_str());
    if (text && *text) assign(fields_[i].path, text, Code::usage, name);
  }
}

Json Fields::write() const {
  Json out = Json::object();
  for (const Field& f : fields_) {
    Json* at = &out;
    std::string_view path = f.path;
    for (size_t dot; (dot = path.find('.')) != std::string_view::npos; path.remove_prefix(dot + 1))
      at = &(*at)[std::string(path.substr(0, dot))];
    (*at)[std::string(path)] = f.to_json();
  }
  return out;
}

}  // namespace llmctl
