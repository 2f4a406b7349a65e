// SPDX-License-Identifier: Apache-2.0
// A struct's fields said once - name, default, help, range, choices - become its JSON form, its
// --set assignments, its environment variables and its command-line flags (cmd/flags.h).
//
//   struct Schedule {
//     std::string kind = "cosine";
//     int64_t warmup_steps = 100;
//     template <class V> void fields(V& v) {
//       v("kind", kind, "shape of the learning rate").choices({"cosine", "linear", "constant"});
//       v("warmup_steps", warmup_steps, "steps to the peak").range(0, 1e9);
//     }
//   };
//   struct TrainConfig {
//     Schedule schedule;
//     template <class V> void fields(V& v) { v.object("schedule", schedule); }
//   };
//   TrainConfig config;
//   Fields fields = fields_of(config);           // points into config, which must outlive it
//   fields.read(read_json("train.json"), "train.json");
//   fields.assign("schedule.warmup_steps", "20", Code::usage, "--set");
//   Json resolved = fields.write();              // reads back as it is
//
// Types: bool, integers, float, double, std::string, Json, structs with fields(), and of these
// std::vector and std::optional (null when absent). An enum is a string with choices.
#pragma once

#include <concepts>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/json.h"

namespace llmctl {

class Fields;
template <class T>
concept HasFields = requires(T& t, Fields& f) {
  t.fields(f);
};

struct Field {
  std::string path, help;
  std::string kind;      // for help: int, number, text, true|false, list, json
  bool is_text = false;  // an assigned value is the text itself, not JSON
  bool is_list = false, list_of_text = false;
  bool is_bool = false;
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
  std::vector<std::string> allowed;
  std::function<void(const Json&)> from_json;  // Error{input} saying what was expected
  std::function<Json()> to_json;

  Field& range(double lowest, double highest) {
    low = lowest;
    high = highest;
    return *this;
  }
  Field& choices(std::vector<std::string> values) {
    allowed = std::move(values);
    return *this;
  }
};

class Fields {
 public:
  template <class T>
  Field& operator()(const char* name, T& target, const char* help);
  template <HasFields T>
  void object(const char* name, T& target) {
    std::string outer = std::exchange(prefix_, prefix_ + name + ".");
    target.fields(*this);
    prefix_ = std::move(outer);
  }

  // Reads an object; fields it does not name keep their values. Error{code} naming `source`, the field
  // and, for an unknown one, the closest name; fields read before the bad one have changed.
  void read(const Json& object, const std::string& source, Code code = Code::input);
  // One value as it is typed: text as it is, a list as "a,b" or JSON, all else JSON. `source` is
  // what the person wrote (a flag's name, "--set", a variable's name).
  void assign(std::string_view path, std::string_view text, Code code, const std::string& source);
  // "a.b=c": Error{usage}.
  void assign_set(std::string_view assignment);
  // Every field whose variable (variable_of) is set: Error{usage}.
  void assign_environment();
  Json write() const;

  const std::vector<Field>& all() const { return fields_; }

 private:
  void read_object(const Json& object, const std::string& prefix, const std::string& source, Code code);
  void read_value(Field& field, const Json& value, const std::string& source, Code code);
  Field* find(std::string_view path);
  [[noreturn]] void unknown(std::string_view path, const std::string& source, Code code) const;
  std::vector<Field> fields_;
  std::string prefix_;
};

template <HasFields T>
Fields fields_of(T& config) {
  Fields fields;
  config.fields(fields);
  return fields;
}

// The candidate nearest to `name` by edits, or "" when none is near.
std::string closest_name(std::string_view name, const std::vector<std::string>& candidates);
// "optimizer.beta1" or "--max-tokens" to "LLMCTL_OPTIMIZER_BETA1", "LLMCTL_MAX_TOKENS".
std::string variable_of(std::string_view name);

namespace config_detail {

bool bool_from(const Json& v);
double number_from(const Json& v);
int64_t int_from(const Json& v, int64_t low, int64_t high);
uint64_t unsigned_from(const Json& v, uint64_t high);
std::string text_from(const Json& v);
const Json& list_from(const Json& v);

template <class T>
struct Traits;

template <>
struct Traits<bool> {
  static constexpr const char* kKind = "true|false";
  static void read(const Json& v, bool& out) { out = bool_from(v); }
  static Json write(bool& v) { return v; }
};
template <std::integral T>
struct Traits<T> {
  static constexpr const char* kKind = "int";
  static void read(const Json& v, T& out) {
    using L = std::numeric_limits<T>;
    if constexpr (std::is_signed_v<T>)
      out = static_cast<T>(int_from(v, L::min(), L::max()));
    else
      out = static_cast<T>(unsigned_from(v, L::max()));
  }
  static Json write(T& v) { return v; }
};
template <std::floating_point T>
struct Traits<T> {
  static constexpr const char* kKind = "number";
  static void read(const Json& v, T& out) { out = static_cast<T>(number_from(v)); }
  static Json write(T& v);
};
template <>
struct Traits<std::string> {
  static constexpr const char* kKind = "text";
  static void read(const Json& v, std::string& out) { out = text_from(v); }
  static Json write(std::string& v) { return v; }
};
template <>
struct Traits<Json> {
  static constexpr const char* kKind = "json";
  static void read(const Json& v, Json& out) { out = v; }
  static Json write(Json& v) { return v; }
};
template <HasFields T>
struct Traits<T> {
  static constexpr const char* kKind = "json";
  static void read(const Json& v, T& out) {
    T fresh{};
    fields_of(fresh).read(v, "");
    out = std::move(fresh);
  }
  static Json write(T& v) { return fields_of(v).write(); }
};
template <class T>
struct Traits<std::vector<T>> {
  static constexpr const char* kKind = "list";
  static void read(const Json& v, std::vector<T>& out) {
    std::vector<T> fresh;
    for (const Json& item : list_from(v)) {
      T one{};
      Traits<T>::read(item, one);
      fresh.push_back(std::move(one));
    }
    out = std::move(fresh);
  }
  static Json write(std::vector<T>& v) {
    Json out = Json::array();
    for (auto&& item : v) {
      T one = item;
      out.push_back(Traits<T>::write(one));
    }
    return out;
  }
};
template <class T>
struct Traits<std::optional<T>> {
  static constexpr const char* kKind = Traits<T>::kKind;
  static void read(const Json& v, std::optional<T>& out) {
    if (v.is_null()) return out.reset();
    T one{};
    Traits<T>::read(v, one);
    out = std::move(one);
  }
  static Json write(std::optional<T>& v) { return v ? Traits<T>::write(*v) : Json(nullptr); }
};

// A float's shortest text, not its image in double: 0.1f is written 0.1.
double shortest_double(float v);
template <std::floating_point T>
Json Traits<T>::write(T& v) {
  if constexpr (std::is_same_v<T, float>)
    return shortest_double(v);
  else
    return v;
}

template <class T>
constexpr bool is_vector = false;
template <class T>
constexpr bool is_vector<std::vector<T>> = true;

}  // namespace config_detail

template <class T>
Field& Fields::operator()(const char* name, T& target, const char* help) {
  using Traits = config_detail::Traits<T>;
  Field field;
  field.path = prefix_ + name;
  field.help = help;
  field.kind = Traits::kKind;
  field.is_text = field.kind == "text";
  field.is_bool = field.kind == "true|false";
  field.is_list = config_detail::is_vector<T>;
  field.list_of_text = std::is_same_v<T, std::vector<std::string>>;
  field.from_json = [&target](const Json& v) { Traits::read(v, target); };
  field.to_json = [&target] { return Traits::write(target); };
  fields_.push_back(std::move(field));
  return fields_.back();
}

}  // namespace llmctl
