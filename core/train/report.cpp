// SPDX-License-Identifier: Apache-2.0
#include "core/train/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "core/base/svg.h"

namespace llmctl {
namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1b2330; --soft: #667085;
  --rule: #e3e6eb; --c0: #2563eb; --c1: #d97706; --c2: #0d9488; --c3: #9333ea; }
@media (prefers-color-scheme: dark) { :root { --page: #11151c; --card: #1a202b; --ink: #e6eaf0; --soft: #98a2b3;
  --rule: #2c3442; --c0: #6ea0ff; --c1: #f5b14c; --c2: #45cabb; --c3: #c38bff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { margin: 0; font-size: 26px; } h2 { margin: 34px 0 12px; font-size: 17px; }
.subtitle, .note, footer { color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px 16px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 20px; }
.figures b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.figures span { color: var(--soft); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr)); gap: 14px; }
.charts h3 { margin: 0 0 4px; font-size: 14px; }
svg { width: 100%; height: auto; display: block; }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--soft); }
svg .label { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
svg .faint { opacity: .32; stroke-width: 1; }
svg .series-0 { stroke: var(--c0); } svg .series-1 { stroke: var(--c1); }
svg .series-2 { stroke: var(--c2); } svg .series-3 { stroke: var(--c3); }
svg .dot { fill: var(--card); stroke-width: 1.8; }
svg .hover { fill: transparent; stroke: none; } svg .hover:hover { fill: var(--soft); fill-opacity: .5; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } tr:last-child td { border-bottom: 0; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.value { font-family: ui-monospace, monospace; font-size: 13px; overflow-wrap: anywhere; }
details summary { cursor: pointer; color: var(--soft); }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, monospace; }
pre .prompt { color: var(--soft); } .sample { margin-bottom: 10px; }
footer { margin-top: 40px; font-size: 13px; }
)css";

std::optional<double> number_at(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key) || !object[key].is_number()) return std::nullopt;
  return object[key].get<double>();
}

ChartSeries series_of(const std::vector<Json>& metrics, const char* key, const std::string& label,
                      int colour) {
  ChartSeries out;
  out.label = label;
  out.colour = colour;
  for (const Json& line : metrics) {
    const auto step = number_at(line, "step"), value = number_at(line, key);
    if (!step || !value || !std::isfinite(*value)) continue;
    out.x.push_back(*step);
    out.y.push_back(*value);
  }
  return out;
}

// Exponential mean over about a hundredth of the points, corrected for its start.
ChartSeries smoothed(const ChartSeries& raw, const std::string& label) {
  ChartSeries out = raw;
  out.label = label;
  out.faint = false;
  const double keep = 1.0 - 1.0 / std::clamp(static_cast<double>(raw.y.size()) / 100.0, 1.0, 200.0);
  double mean = 0, weight = 0;
  for (double& y : out.y) {
    mean = keep * mean + (1 - keep) * y;
    weight = keep * weight + (1 - keep);
    y = mean / weight;
  }
  return out;
}

std::vector<Chart> charts_of(const std::vector<Json>& metrics) {
  const auto raw_and_mean = [&](const char* key, const std::string& label, int colour) {
    ChartSeries raw = series_of(metrics, key, label, colour);
    if (raw.y.size() < 100) return std::vector<ChartSeries>{raw};
    raw.faint = true;
    return std::vector<ChartSeries>{raw, smoothed(raw, "smoothed")};
  };
  Chart loss{"Loss", "step", "nats per token", raw_and_mean("loss", "training", 0), false};
  ChartSeries validation = series_of(metrics, "val_loss", "validation", 1);
  validation.dots = validation.y.size() <= 60;
  loss.series.push_back(validation);
  return {
      loss,
      {"Learning rate", "step", "per step", {series_of(metrics, "learning_rate", "learning rate", 2)}, true},
      {"Gradient norm", "step", "before clipping", raw_and_mean("grad_norm", "norm", 3), true},
      {"Throughput", "step", "tokens per second", raw_and_mean("tokens_per_second", "tokens/s", 0), true}};
}

bool is_number(const std::string& cell) {
  return !cell.empty() && cell.find_first_not_of("0123456789+-.,%eEkMG/ ") == std::string::npos &&
         cell.find_first_of("0123456789") != std::string::npos;
}

// A column is set to the right when all of its cells are numbers.
std::string table_of(const ReportTable& table) {
  size_t columns = table.header.size();
  for (const auto& row : table.rows) columns = std::max(columns, row.size());
  const auto cell = [](const std::vector<std::string>& row, size_t c) {
    return c < row.size() ? row[c] : "";
  };
  std::vector<const char*> kind(columns, "");
  for (size_t c = 0; c < columns; ++c)
    if (std::all_of(table.rows.begin(), table.rows.end(),
                    [&](const auto& row) { return is_number(cell(row, c)); }))
      kind[c] = " class=\"number\"";
  std::string out = "<div class=\"card scroll\"><table>\n";
  const auto append = [&](const std::vector<std::string>& row, const char* tag) {
    out += "<tr>";
    for (size_t c = 0; c < columns; ++c)
      out += fmt::format("<{0}{1}>{2}</{0}>", tag, kind[c], html_text(cell(row, c)));
    out += "</tr>\n";
  };
  if (!table.header.empty()) append(table.header, "th");
  for (const auto& row : table.rows) append(row, "td");
  out += "</table></div>\n";
  if (!table.note.empty()) out += "<p class=\"note\">" + html_text(table.note) + "</p>\n";
  return out;
}

// Every leaf of the object as a row; arrays of plain values stay on one line.
void append_rows(const Json& value, const std::string& name, std::string& out) {
  const bool nested = value.is_object() && !value.empty();
  const bool list_of_nested = value.is_array() && std::any_of(value.begin(), value.end(), [](const Json& v) {
                                return v.is_structured();
                              });
  if (nested) {
    for (const auto& [key, item] : value.items())
      append_rows(item, name.empty() ? key : name + "." + key, out);
  } else if (list_of_nested) {
    for (size_t i = 0; i < value.size(); ++i) append_rows(value[i], fmt::format("{}[{}]", name, i), out);
  } else {
    const std::string text = value.is_string() ? value.get<std::string>()
                                               : value.dump(-1, ' ', false, Json::error_handler_t::replace);
    out += fmt::format("<tr><td>{}</td><td class=\"value\">{}</td></tr>\n", html_text(name), html_text(text));
  }
}

std::string figures_of(const ReportInput& input) {
  std::string out = "<div class=\"figures\">\n";
  for (const auto& [value, caption] : input.figures)
    out += fmt::format("<div class=\"card\"><b>{}</b><span>{}</span></div>\n", html_text(value),
                       html_text(caption));
  return input.figures.empty() ? "" : out + "</div>\n";
}

std::string curves_of(const ReportInput& input) {
  std::string out;
  for (const Chart& chart : charts_of(input.metrics)) {
    const std::string svg = line_chart(chart);
    if (!svg.empty())
      out += fmt::format("<div class=\"card\"><h3>{}</h3>\n{}</div>\n", html_text(chart.title), svg);
  }
  return out.empty() ? "" : "<h2>Curves</h2>\n<div class=\"charts\">\n" + out + "</div>\n";
}

std::string samples_of(const ReportInput& input) {
  std::string out = input.samples.empty() ? "" : "<h2>Samples</h2>\n";
  for (const ReportSample& s : input.samples)
    out += fmt::format("<div class=\"card sample\"><pre><span class=\"prompt\">{}</span>{}</pre></div>\n",
                       html_text(s.prompt), html_text(s.output));
  return out;
}

// The last line of metrics that has the key.
std::optional<double> last_of(const std::vector<Json>& metrics, const char* key) {
  for (auto line = metrics.rbegin(); line != metrics.rend(); ++line)
    if (auto value = number_at(*line, key)) return value;
  return std::nullopt;
}

std::vector<Json> read_metrics(const fs::path& path) {
  ByteReader reader(path);
  std::string text;
  std::map<double, Json> by_step;
  std::optional<Error> pending;  // a bad line is forgiven only when it is the last
  for (int64_t number = 1; reader.line(text); ++number) {
    if (pending) throw *pending;
    if (text.empty()) continue;
    const std::string who = path.string() + ":" + std::to_string(number);
    try {
      Json line = parse_json(text, who);
      const auto step = number_at(line, "step");
      check(step && std::isfinite(*step), Code::input, "[report] ", who, ": no number \"step\"");
      by_step[*step] = std::move(line);
    } catch (const Error& e) {
      pending = e;
    }
  }
  std::vector<Json> out;
  for (auto& [step, line] : by_step) out.push_back(std::move(line));
  return out;
}

}  // namespace

ReportInput report_of_run(const fs::path& run) {
  ReportInput out;
  out.run = read_json(run / "run.json");
  out.metrics = read_metrics(run / "metrics.jsonl");
  const fs::path folder = fs::absolute(run).lexically_normal();
  out.title = (folder.has_filename() ? folder : folder.parent_path()).filename().string();
  const struct {
    const char *key, *caption;
    int digits;
  } shown[] = {{"step", "last step", 8},
               {"loss", "training loss, nats per token", 5},
               {"val_loss", "validation loss, nats per token", 5},
               {"tokens_per_second", "tokens per second", 4}};
  for (const auto& s : shown)
    if (const auto value = last_of(out.metrics, s.key))
      out.figures.emplace_back(short_number(*value, s.digits), s.caption);
  return out;
}

std::string render_report(const ReportInput& input) {
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n<main>\n<h1>{0}</h1>\n",
      html_text(input.title), kStyle);
  if (!input.subtitle.empty()) out += "<div class=\"subtitle\">" + html_text(input.subtitle) + "</div>\n";
  out += figures_of(input) + curves_of(input);
  for (const ReportTable& table : input.tables)
    out += "<h2>" + html_text(table.title) + "</h2>\n" + table_of(table);
  out += samples_of(input);
  std::string rows;
  if (input.run.is_object() && !input.run.empty()) append_rows(input.run, "", rows);
  if (!rows.empty())
    out +=
        "<h2>Configuration</h2>\n<details class=\"card\" open=\"open\"><summary>every field of "
        "run.json</summary>"
        "<div class=\"scroll\"><table>\n" +
        rows + "</table></div></details>\n";
  return out +
         "<footer>Written by llmctl. `llmctl reproduce` replays this "
         "run.</footer>\n</main>\n</body>\n</html>\n";
}

}  // namespace llmctl
