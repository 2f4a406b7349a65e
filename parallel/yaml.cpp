// SPDX-License-Identifier: Apache-2.0
#include "parallel/yaml.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace llmctl {
namespace {

// YAML 1.1 readers take more words for truth values than 1.2's.
bool reads_as_text(const std::string& s) {
  constexpr std::array kWords = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"};
  std::string lower = s;
  std::transform(s.begin(), s.end(), lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (s.empty() || std::find(kWords.begin(), kWords.end(), lower) != kWords.end()) return false;
  const auto plain = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '/' || c == '.'; };
  return std::isalpha(static_cast<unsigned char>(s[0])) && std::all_of(s.begin(), s.end(), plain);
}

void emit(YAML::Emitter& out, const Json& json) {
  if (json.is_object()) {
    out << YAML::BeginMap;
    for (const auto& [key, value] : json.items()) {
      out << YAML::Key << key << YAML::Value;
      emit(out, value);
    }
    out << YAML::EndMap;
  } else if (json.is_array()) {
    out << YAML::BeginSeq;
    for (const Json& item : json) emit(out, item);
    out << YAML::EndSeq;
  } else if (json.is_string()) {
    const std::string text = json.get<std::string>();
    if (!reads_as_text(text)) out << YAML::DoubleQuoted;
    out << text;
  } else {
    out << json.dump();  // numbers, true, false, null are YAML as they are
  }
}

}  // namespace

std::string yaml_text(const Json& json) {
  YAML::Emitter out;
  emit(out, json);
  return std::string(out.c_str()) + "\n";
}

}  // namespace llmctl
