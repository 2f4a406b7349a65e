// SPDX-License-Identifier: Apache-2.0
#include "data/pipeline/report.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/progress.h"
#include "core/train/report.h"
#include "data/pipeline/run.h"

namespace llmctl {
namespace {

void add_counts(Json& into, const Json& counts) {
  for (const auto& [rule, n] : counts.items()) into[rule] = into.value(rule, uint64_t{0}) + n.get<uint64_t>();
}

double number(const Json& j) {
  return j.get<double>();
}

Json stage_row(const Json& m) {
  const double seconds = std::max(1e-9, number(m["seconds"]));
  Json row = {{"name", m["stage"]}};
  for (const char* key : {"documents_in", "kept", "bytes_in", "bytes_kept", "dropped", "seconds", "threads",
                          "peak_memory", "extra"})
    row[key] = m[key];
  row["documents_per_second"] = number(m["documents_in"]) / seconds;
  row["bytes_per_second"] = number(m["bytes"].get<uint64_t>() > 0 ? m["bytes"] : m["bytes_in"]) / seconds;
  return row;
}

std::string percent(uint64_t part, uint64_t whole) {
  return whole > 0 ? fmt::format("{:.2f} %", 100.0 * static_cast<double>(part) / static_cast<double>(whole))
                   : "-";
}

using Rows = std::vector<std::vector<std::string>>;

Rows stage_rows(const Json& report) {
  Rows rows;
  for (const Json& s : report["stages"])
    rows.push_back({s["name"], std::to_string(s["documents_in"].get<uint64_t>()),
                    std::to_string(s["kept"].get<uint64_t>()), percent(s["kept"], s["documents_in"]),
                    fmt::format("{:.1f}", number(s["seconds"])),
                    short_count(number(s["documents_per_second"])),
                    short_count(number(s["bytes_per_second"])), short_count(number(s["peak_memory"]))});
  return rows;
}
const std::vector<std::string> kStageHeader = {"stage",   "in",          "kept",    "share",
                                               "seconds", "documents/s", "bytes/s", "peak bytes"};

Rows rule_rows(const Json& report) {
  Rows rows;
  for (const Json& s : report["stages"])
    for (const auto& [rule, n] : s["dropped"].items())
      rows.push_back({rule, std::to_string(n.get<uint64_t>()), percent(n, s["documents_in"])});
  for (const char* key : {"skipped", "repaired"})
    for (const auto& [name, n] : report[key].items())
      rows.push_back({fmt::format("{} at ingest: {}", key, name), std::to_string(n.get<uint64_t>()), "-"});
  return rows;
}
const std::vector<std::string> kRuleHeader = {"rule", "documents", "of its stage"};

Rows source_rows(const Json& report) {
  Rows rows;
  for (const auto& [name, s] : report["sources"].items())
    rows.push_back({name, std::to_string(s["documents_in"].get<uint64_t>()),
                    std::to_string(s["documents_out"].get<uint64_t>()),
                    percent(s["documents_out"], s["documents_in"])});
  return rows;
}
const std::vector<std::string> kSourceHeader = {"source", "in", "out", "share"};

std::string table_text(const std::vector<std::string>& header, const Rows& rows) {
  std::vector<size_t> width;
  for (const std::string& cell : header) width.push_back(cell.size());
  for (const auto& row : rows)
    for (size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], row[c].size());
  std::string text;
  const auto line = [&](const std::vector<std::string>& row) {
    text += fmt::format("{:<{}}", row[0], width[0]);
    for (size_t c = 1; c < row.size(); ++c) text += fmt::format("  {:>{}}", row[c], width[c]);
    text += '\n';
  };
  line(header);
  for (const auto& row : rows) line(row);
  return text;
}

}  // namespace

Json run_report(const fs::path& folder) {
  pipeline_config_of(folder);
  Json report = {{"documents_in", 0},
                 {"documents_out", 0},
                 {"bytes_in", 0},
                 {"bytes_out", 0},
                 {"dropped", Json::object()},
                 {"skipped", Json::object()},
                 {"repaired", Json::object()},
                 {"digest", nullptr}};
  Json stages = Json::array(), sources = Json::object();
  for (const fs::path& stage : finished_stages(folder)) {
    const Json m = read_json(stage / "stage.json");
    if (stages.empty()) {
      report["documents_in"] = m["documents_in"], report["bytes_in"] = m["bytes_in"];
      if (m["extra"].contains("skipped"))
        report["skipped"] = m["extra"]["skipped"], report["repaired"] = m["extra"]["repaired"];
    }
    report["documents_out"] = m["kept"], report["bytes_out"] = m["bytes_kept"];
    add_counts(report["dropped"], m["dropped"]);
    for (const auto& [name, s] : m["sources"].items()) {
      Json& source = sources[name];
      if (source.is_null())
        source = {{"documents_in", s["documents_in"]}, {"documents_out", 0}, {"dropped", Json::object()}};
      source["documents_out"] = s["kept"];
      add_counts(source["dropped"], s["dropped"]);
    }
    stages.push_back(stage_row(m));
  }
  if (fs::exists(folder / "result.json")) report["digest"] = read_json(folder / "result.json")["digest"];
  report["stages"] = stages;
  report["sources"] = sources;
  return report;
}

std::string report_text(const Json& report) {
  std::string text = table_text(kStageHeader, stage_rows(report)) + "\n" +
                     table_text(kRuleHeader, rule_rows(report)) + "\n" +
                     table_text(kSourceHeader, source_rows(report));
  return text + (report["digest"].is_null() ? "\nnot finished: run it again to go on"
                                            : "\ndigest " + report["digest"].get<std::string>());
}

std::string report_html(const fs::path& folder, const Json& report) {
  ReportInput input;
  input.title = fs::absolute(folder).lexically_normal().filename().string();
  input.subtitle = "data run: what came in, what was kept, and why the rest was not";
  input.figures = {{short_count(number(report["documents_in"])), "documents in"},
                   {short_count(number(report["documents_out"])), "documents out"},
                   {percent(report["bytes_out"], report["bytes_in"]), "of the bytes kept"}};
  input.tables = {{"Stages", kStageHeader, stage_rows(report), ""},
                  {"Rules", kRuleHeader, rule_rows(report), ""},
                  {"Sources", kSourceHeader, source_rows(report), ""}};
  input.run = read_json(folder / "run.json")["config"];
  std::string curves;
  for (const Json& s : report["stages"])
    for (const auto& item : s["dropped"].items()) {
      if (s["name"] != "filter" || item.key().starts_with("language.")) continue;
      curves += what_if(folder, item.key()).chart();
    }
  std::string page = render_report(input);
  const size_t end = page.rfind("</main>");
  return end == std::string::npos ? page : page.insert(end, curves);
}

}  // namespace llmctl
