// SPDX-License-Identifier: Apache-2.0
#include "parallel/hardware.h"

#include <algorithm>

#include "parallel/hardware_table.h"

namespace llmctl {
namespace {

struct FieldOf {
  const char* name;
  double Hardware::*value;
  double unit;
};
constexpr FieldOf kFields[] = {
    {"tflops", &Hardware::flops, 1e12},          {"memory_gb", &Hardware::memory, 1e9},
    {"memory_gbps", &Hardware::memory_rate, 1e9}, {"link_gbps", &Hardware::link_rate, 1e9},
    {"network_gbps", &Hardware::network_rate, 1e9}, {"node", &Hardware::node, 1},
    {"watts", &Hardware::watts, 1},              {"price", &Hardware::price, 1},
    {"gemm", &Hardware::gemm, 1},                {"attention", &Hardware::attention, 1}};

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

void read_row(const Json& fields, const std::string& who, Hardware& row) {
  check(fields.is_object(), Code::input, who, " is not an object");
  for (const auto& [name, value] : fields.items()) {
    const auto* field = std::find_if(std::begin(kFields), std::end(kFields), [&](const FieldOf& f) { return name == f.name; });
    check(field != std::end(kFields), Code::input, who, ": no field '", name, "'");
    check(value.is_number() && value.get<double>() > 0, Code::input, who, ": ", name, " is ", value.dump(),
          ", not a positive number");
    row.*field->value = value.get<double>() * field->unit;
  }
  for (const FieldOf& field : kFields) {
    const bool has_default = field.value == &Hardware::gemm || field.value == &Hardware::attention;
    check(has_default || row.*field.value > 0, Code::input, who, ": '", field.name, "' is missing");
  }
  check(row.gemm <= 1 && row.attention <= 1, Code::input, who, ": gemm and attention are shares of the peak, at most 1");
}

}  // namespace

std::vector<Hardware> read_hardware(const Json& json, const std::string& who, std::vector<Hardware> rows) {
  check(json.is_object() && json.contains("devices") && json["devices"].is_object(), Code::input, who,
        ": no object \"devices\"");
  for (const auto& [name, fields] : json["devices"].items()) {
    auto at = std::find_if(rows.begin(), rows.end(), [&](const Hardware& h) { return h.name == lower(name); });
    if (at == rows.end()) at = rows.insert(rows.end(), Hardware{.name = lower(name)});
    read_row(fields, who + ": " + name, *at);
  }
  return rows;
}

const std::vector<Hardware>& known_hardware() {
  static const std::vector<Hardware> rows = [] {
    std::vector<Hardware> r = read_hardware(parse_json(kHardwareTable, "[hardware]"), "[hardware]");
    const Hardware h100 = hardware_named(r, "h100");
    for (Hardware& row : r) {
      if (row.gemm == 0) row.gemm = h100.gemm;
      if (row.attention == 0) row.attention = h100.attention;
    }
    return r;
  }();
  return rows;
}

const Hardware& hardware_named(const std::vector<Hardware>& rows, const std::string& name) {
  const auto at = std::find_if(rows.begin(), rows.end(), [&](const Hardware& h) { return h.name == lower(name); });
  std::string names;
  for (const Hardware& h : rows) names += (names.empty() ? "" : ", ") + h.name;
  check(at != rows.end(), Code::input, "[plan] no device '", name, "' in the table: there are ", names,
        "; --machines FILE adds some");
  return *at;
}

}  // namespace llmctl
