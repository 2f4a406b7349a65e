// SPDX-License-Identifier: Apache-2.0
#include "data/quality/recipe.h"

#include <algorithm>
#include <limits>

#include "data/quality/presets.h"
#include "data/text/char_class.h"

namespace llmctl {

struct Recipe::State {
  std::vector<std::string> columns;
  std::vector<Rule> rules;
  std::vector<Annotator> annotators;
  std::vector<int> first_column;  // of each annotator
  Json resolved = Json::array();

  void add(const Json& filter);
  void add(const Preset& preset, const Json& arguments);
};

namespace {

// The preset's arguments with those of the filter; unknown names and other types are refused.
Json with_arguments(const Preset& preset, const Json& filter) {
  Json arguments = preset.arguments;
  for (const auto& [key, value] : filter.items()) {
    if (key == "preset") continue;
    std::string known;
    for (const auto& [name, unused] : arguments.items()) known += (known.empty() ? "" : ", ") + name;
    check(arguments.contains(key), Code::input, "[filters] ", preset.name, " has no \"", key, "\": it has ",
          known);
    Json& place = arguments.at(key);
    const bool same = place.is_number() ? value.is_number() || value.is_null() : place.type() == value.type();
    check(same, Code::input, "[filters] ", preset.name, ".", key, ": ", json_text(value), " where ",
          json_text(place), " is the default");
    place = value;
  }
  return arguments;
}

}  // namespace

void Recipe::State::add(const Json& filter) {
  check(filter.is_string() ||
            (filter.is_object() && filter.contains("preset") && filter.at("preset").is_string()),
        Code::input, "[filters] ", json_text(filter), ": a preset's name or {\"preset\": name, ...}");
  const Json object = filter.is_string() ? Json{{"preset", filter}} : filter;
  const auto name = object.at("preset").get<std::string>();
  const std::vector<const Preset*> presets = find_presets(name);
  check(presets.size() == 1 || object.size() == 1, Code::input, "[filters] ", name,
        " is a list of presets: name those to change an argument");
  for (const Preset* preset : presets) add(*preset, with_arguments(*preset, object));
}

void Recipe::State::add(const Preset& preset, const Json& arguments) {
  // A preset that stands twice keeps its columns apart.
  std::string prefix = preset.name;
  for (int n = 2;
       std::find(columns.begin(), columns.end(), prefix + "." + preset.columns[0]) != columns.end(); ++n)
    prefix = preset.name + "#" + std::to_string(n);
  const auto first = static_cast<int>(columns.size());
  first_column.push_back(first);
  for (const std::string& column : preset.columns) columns.push_back(prefix + "." + column);
  for (const PresetRule& r : preset.rules) {
    double threshold = r.fixed;
    if (r.argument != nullptr) {
      if (arguments.at(r.argument).is_null()) continue;
      threshold = arguments.at(r.argument).get<double>();
    }
    const auto column =
        std::find(preset.columns.begin(), preset.columns.end(), r.column) - preset.columns.begin();
    rules.push_back({prefix + "." + r.name, first + static_cast<int>(column), r.drop, threshold});
  }
  annotators.push_back(preset.annotator(arguments));
  Json named = {{"preset", preset.name}};
  for (const auto& [key, value] : arguments.items()) named[key] = value;
  resolved.push_back(std::move(named));
}

Recipe::Recipe(const Json& filters) : state_(std::make_unique<State>()) {
  if (filters.is_null()) return;
  if (filters.is_array())
    for (const Json& filter : filters) state_->add(filter);
  else
    state_->add(filters);
}
Recipe::~Recipe() = default;
Recipe::Recipe(Recipe&&) noexcept = default;
Recipe& Recipe::operator=(Recipe&&) noexcept = default;

const std::vector<std::string>& Recipe::columns() const {
  return state_->columns;
}
const std::vector<Rule>& Recipe::rules() const {
  return state_->rules;
}
Json Recipe::resolved() const {
  return state_->resolved;
}

Annotated Recipe::annotate(std::string_view text) const {
  check(text.size() < std::numeric_limits<uint32_t>::max() / 4, Code::input, "[filters] a document of ",
        text.size(), " bytes: less than 1 GiB");
  FilteredText filtered(valid_utf8(text));
  Annotated result;
  result.signals.resize(state_->columns.size());
  for (size_t i = 0; i < state_->annotators.size(); ++i)
    state_->annotators[i](filtered, result.signals.data() + state_->first_column[i]);
  result.text = filtered.take();
  return result;
}

const Rule* Recipe::first_failing(std::span<const double> signals) const {
  check(signals.size() == state_->columns.size(), Code::bug, "[filters] ", signals.size(), " signals for ",
        state_->columns.size(), " columns");
  for (const Rule& rule : state_->rules)
    if (rule.drops(signals[static_cast<size_t>(rule.column)])) return &rule;
  return nullptr;
}

}  // namespace llmctl
