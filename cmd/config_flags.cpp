// SPDX-License-Identifier: Apache-2.0
// Flags from config fields, and --config, --set and the environment for all other flags.
#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "cmd/flags.h"

namespace llmctl {
namespace {

constexpr const char* kFieldGroup = "Config fields";

std::string flag_of(std::string path) {
  std::replace(path.begin(), path.end(), '_', '-');
  return "--" + path;
}

CLI::Option* declare(CLI::App& app, const Field& field, std::string& text) {
  if (field.is_bool) return app.add_flag(flag_of(field.path), text, field.help);
  CLI::Option* option = app.add_option(flag_of(field.path), text, field.help)->type_name(field.kind);
  if (field.is_list && field.list_of_text) option->join(',');
  return option;
}

bool stops_flags(const std::string& argument) {
  return argument == "--";
}

// Whether the person gave this option, in any of its spellings.
bool given(const CLI::Option& option, const std::vector<std::string>& arguments) {
  auto matches = [](const std::string& argument, const std::string& name) {
    return argument == name || argument.rfind(name + "=", 0) == 0;
  };
  for (const std::string& argument : arguments) {
    if (stops_flags(argument)) return false;
    for (const auto& name : option.get_lnames())
      if (matches(argument, "--" + name)) return true;
    for (const auto& name : option.get_snames())
      if (argument.rfind("-" + name, 0) == 0) return true;
  }
  return false;
}

// The values of a repeatable flag, as typed.
std::vector<std::string> values_of(const char* flag, const std::vector<std::string>& arguments) {
  std::vector<std::string> out;
  std::string with_equals = std::string(flag) + "=";
  for (size_t i = 0; i < arguments.size() && !stops_flags(arguments[i]); ++i) {
    if (arguments[i].rfind(with_equals, 0) == 0) out.push_back(arguments[i].substr(with_equals.size()));
    if (arguments[i] == flag && i + 1 < arguments.size()) out.push_back(arguments[++i]);
  }
  return out;
}

struct Assignment {
  std::string name, text, source;
  Code code;
};

void append_json(const std::string& name, const Json& value, const std::string& source,
                 std::vector<Assignment>& out) {
  if (value.is_array()) {
    for (const Json& item : value) append_json(name, item, source, out);
  } else if (value.is_object()) {
    for (const auto& [key, item] : value.items()) append_json(name + "." + key, item, source, out);
  } else if (!value.is_null()) {
    out.push_back({name, value.is_string() ? value.get<std::string>() : value.dump(), source, Code::input});
  }
}

CLI::Option* option_named(CLI::App& app, const std::string& name) {
  CLI::Option* option = app.get_option_no_throw(flag_of(name));
  return option && option->nonpositional() ? option : nullptr;
}

void push(CLI::Option& option, const std::string& text, std::vector<std::string>& out) {
  std::string name = "--" + option.get_lnames().front();
  if (option.get_expected_max() == 0 || !text.empty()) {
    out.push_back(name + "=" + text);
  } else {  // "--name=" would take the next argument as its value
    out.push_back(name);
    out.emplace_back();
  }
}

// Adds `assignments` for the options that nothing stronger has set.
void apply(CLI::App& app, const std::vector<Assignment>& assignments, std::vector<CLI::Option*>& done,
           std::vector<std::string>& out) {
  std::vector<CLI::Option*> now;
  for (const Assignment& a : assignments) {
    CLI::Option* option = option_named(app, a.name);
    if (!option) {
      std::string near = closest_name(flag_of(a.name), flag_names(app));
      throw Error(a.code, "[config] " + a.source + ": unknown field " + a.name +
                              (near.empty() ? "" : "; did you mean " + near.substr(2) + "?"));
    }
    if (std::find(done.begin(), done.end(), option) != done.end()) continue;
    now.push_back(option);
    push(*option, a.text, out);
  }
  done.insert(done.end(), now.begin(), now.end());
}

std::vector<Assignment> from_set(const std::vector<std::string>& sets) {
  std::vector<Assignment> out;
  for (const std::string& set : sets) {
    size_t equals = set.find('=');
    check(equals != std::string::npos && equals > 0, Code::usage, "[config] --set ", set,
          ": write it as field=value");
    std::string name = set.substr(0, equals);
    // The last of several wins, as in a file.
    std::erase_if(out, [&](const Assignment& a) { return a.name == name; });
    out.push_back({name, set.substr(equals + 1), "--set", Code::usage});
  }
  return out;
}

std::vector<Assignment> from_file(const std::vector<std::string>& arguments) {
  std::vector<std::string> files = values_of("--config", arguments);
  const char* variable = std::getenv("LLMCTL_CONFIG");
  if (files.empty() && variable && *variable) files.push_back(variable);
  std::vector<Assignment> out;
  for (const std::string& path : files) {
    Json json = read_json(path);
    check(json.is_object(), Code::input, "[config] ", path, ": expected an object of flags");
    for (const auto& [key, value] : json.items()) append_json(key, value, path, out);
  }
  return out;
}

// A flag may be typed as its field is written in a file: --unit.seq_len is --unit.seq-len.
void spell_as_flag(CLI::App& app, std::string& argument) {
  const std::string name = argument.substr(0, argument.find('='));
  if (name.rfind("--", 0) != 0 || name.find('_') == std::string::npos || app.get_option_no_throw(name)) return;
  const std::string flag = flag_of(name.substr(2));
  if (app.get_option_no_throw(flag)) argument.replace(0, name.size(), flag);
}

// "--name=" as typed gets its empty value as a word of its own (see push()).
void push_typed(CLI::App& app, std::string& argument, std::vector<std::string>& out) {
  bool empty_value =
      argument.size() > 3 && argument.rfind("--", 0) == 0 && argument.find('=') == argument.size() - 1;
  CLI::Option* option =
      empty_value ? app.get_option_no_throw(argument.substr(0, argument.size() - 1)) : nullptr;
  bool split = option && option->get_expected_max() > 0;
  if (split) argument.pop_back();
  out.push_back(argument);
  if (split) out.emplace_back();
}

}  // namespace

ConfigFlags::ConfigFlags(CLI::App& app, Common& common, Fields fields)
    : common_(common), fields_(std::move(fields)) {
  for (const Field& field : fields_.all()) {
    texts_.emplace_back();
    options_.push_back(declare(app, field, texts_.back())->group(kFieldGroup));
    Json value = field.to_json();
    if (!field.is_bool && !value.is_null() && !value.empty() && !value.is_object())
      options_.back()->default_str(value.is_string() ? value.get<std::string>() : json_text(value));
  }
}

void ConfigFlags::resolve(const std::string& file) {
  check(file.empty() || common_.config.empty(), Code::usage, "[config] both ", file, " and --config ", common_.config,
        " are given: name one file");
  const std::string& path = file.empty() ? common_.config : file;
  if (path.empty())
    resolve(Json::object(), "");
  else
    resolve(read_json(path), path);
}

void ConfigFlags::resolve(const Json& object, const std::string& source) {
  fields_.read(object, source);
  fields_.assign_environment();
  for (const std::string& set : common_.set) fields_.assign_set(set);
  for (size_t i = 0; i < options_.size(); ++i) {
    const Field& field = fields_.all()[i];
    if (options_[i]->count() > 0) fields_.assign(field.path, texts_[i], Code::usage, flag_of(field.path));
  }
}

CLI::App* object_named(CLI::App& app, const std::string& name) {
  for (CLI::App* object : app.get_subcommands([](CLI::App*) { return true; }))
    if (object->get_name() == name) return object;
  return nullptr;
}

CLI::App* leaf_of(CLI::App& root, const std::vector<std::string>& arguments, size_t& words) {
  CLI::App* app = &root;
  words = 0;
  for (const std::string& argument : arguments) {
    CLI::App* next = object_named(*app, argument);
    if (!next) break;
    app = next;
    ++words;
  }
  return app;
}

std::vector<std::string> flag_names(const CLI::App& app) {
  std::vector<std::string> out;
  for (const CLI::Option* option : app.get_options())
    for (const auto& name : option->get_lnames()) out.push_back("--" + name);
  return out;
}

std::vector<std::string> expand_arguments(CLI::App& root, std::vector<std::string> arguments) {
  size_t words = 0;
  CLI::App& app = *leaf_of(root, arguments, words);
  for (auto a = arguments.begin(); a != arguments.end() && !stops_flags(*a); ++a) spell_as_flag(app, *a);
  std::vector<CLI::Option*> done;
  std::vector<Assignment> environment;
  bool has_fields = false;
  for (CLI::Option* option : app.get_options()) {
    bool is_field = option->get_group() == kFieldGroup;  // ConfigFlags resolves those itself
    has_fields |= is_field;
    if (is_field || option->get_lnames().empty() || given(*option, arguments)) {
      done.push_back(option);
      continue;
    }
    const std::string& name = option->get_lnames().front();
    const char* text = std::getenv(variable_of(name).c_str());
    bool takes_variable = name != "help" && name != "version" && name != "set";
    if (text && *text && takes_variable) environment.push_back({name, text, variable_of(name), Code::usage});
  }
  // Words first, then what stands for flags, strongest first, then the rest as typed.
  auto rest = arguments.begin() + static_cast<ptrdiff_t>(words);
  std::vector<std::string> out(arguments.begin(), rest);
  if (!has_fields) apply(app, from_set(values_of("--set", arguments)), done, out);
  apply(app, environment, done, out);
  if (!has_fields) apply(app, from_file(arguments), done, out);
  for (; rest != arguments.end() && !stops_flags(*rest); ++rest) push_typed(app, *rest, out);
  out.insert(out.end(), rest, arguments.end());
  return out;
}

}  // namespace llmctl
