// SPDX-License-Identifier: Apache-2.0
// The page of a sweep: stands alone, no script, light and dark.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "cmd/bench.h"
#include "core/base/svg.h"

namespace llmctl {
namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --ink: #1b2330; --soft: #667085; --rule: #e3e6eb; --page: #ffffff;
  --c0: #2563eb; --c1: #d97706; --c2: #0d9488; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #98a2b3; --rule: #2c3442; --page: #11151c;
  --c0: #6ea0ff; --c1: #f5b14c; --c2: #45cabb; } }
body { max-width: 1120px; margin: 0 auto; padding: 24px 20px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
p { color: var(--soft); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr)); gap: 14px; }
h3 { margin: 8px 0 4px; font-size: 14px; }
svg { width: 100%; height: auto; display: block; }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--soft); }
svg .label { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
svg .series-0 { stroke: var(--c0); } svg .series-1 { stroke: var(--c1); } svg .series-2 { stroke: var(--c2); }
svg .dot { fill: var(--page); stroke-width: 1.8; } svg .hover { fill: transparent; stroke: none; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 3px 10px 3px 0; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); }
)css";

constexpr const char* kText =
    "Dots are measured; lines are predicted from the machine's probes and one calibrating measurement "
    "(cmd/bench_cost.h says how). Limit is the same prediction with every op at the probes' rates. Planned "
    "bytes are what was laid out before the run, peak bytes what was resident at most.";

struct Curve {
  std::string axis, name;
  std::vector<const BenchRow*> rows;
};

std::vector<Curve> curves_of(const std::vector<BenchRow>& rows) {
  std::vector<Curve> out;
  for (const BenchRow& r : rows) {
    if (r.axis.empty() || !r.skipped.empty()) continue;
    auto it = std::find_if(out.begin(), out.end(),
                           [&](const Curve& c) { return c.axis == r.axis && c.name == r.curve; });
    if (it == out.end()) it = out.insert(out.end(), {r.axis, r.curve, {}});
    it->rows.push_back(&r);
  }
  return out;
}

ChartSeries series(const Curve& curve, const std::string& label, int colour, bool dots,
                   const std::function<double(const BenchRow&)>& y) {
  ChartSeries s{.label = label, .colour = colour, .dots = dots};
  for (const BenchRow* r : curve.rows) {
    s.x.push_back(r->at);
    s.y.push_back(y(*r));
  }
  return s;
}

std::string x_label(const std::string& axis) {
  if (axis == "params") return "parameters";
  if (axis == "context") return "tokens of context";
  return axis == "batch" ? "sequences" : axis;
}

std::string figure(const Chart& chart) {
  const std::string svg = line_chart(chart);
  return svg.empty() ? "" : fmt::format("<div><h3>{}</h3>\n{}</div>\n", html_text(chart.title), svg);
}

std::string charts_of(const Curve& c) {
  const Chart speed{
      .title = c.name + " by " + x_label(c.axis),
      .x_label = x_label(c.axis),
      .y_label = "tokens per second",
      .series = {series(c, "predicted", 1, false, [](const BenchRow& r) { return r.predicted; }),
                 series(c, "measured", 0, true, [](const BenchRow& r) { return r.value; })},
      .log_x = true,
      .log_y = true};
  const Chart memory{
      .title = c.name + ", memory by " + x_label(c.axis),
      .x_label = x_label(c.axis),
      .y_label = "bytes",
      .series = {series(c, "planned", 1, false,
                        [](const BenchRow& r) { return static_cast<double>(r.planned_bytes); }),
                 series(c, "peak", 2, true,
                        [](const BenchRow& r) { return static_cast<double>(r.peak_bytes); })},
      .log_x = true,
      .log_y = true};
  // A prompt and what is decoded after it are one run, with one peak.
  return figure(speed) + (c.name.starts_with("prefill") ? "" : figure(memory));
}

std::string cell(double value, int digits = 4) {
  return value > 0 ? short_number(value, digits) : "-";
}

std::string table_of(const std::vector<BenchRow>& rows) {
  std::string out =
      "<table>\n<tr><th>case</th><th>value</th><th>unit</th><th>limit</th><th>predicted</th>"
      "<th>ratio</th><th>planned bytes</th><th>peak bytes</th></tr>\n";
  for (const BenchRow& r : rows)
    out += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        html_text(r.name), r.skipped.empty() ? cell(r.value) : html_text("skipped: " + r.skipped),
        html_text(r.unit), cell(r.limit), cell(r.predicted),
        cell(r.predicted > 0 ? r.value / r.predicted : 0, 3), cell(static_cast<double>(r.planned_bytes)),
        cell(static_cast<double>(r.peak_bytes)));
  return out + "</table>\n";
}

}  // namespace

std::string sweep_page(const std::vector<BenchRow>& rows, const std::string& subtitle) {
  std::string charts, axis;
  for (const Curve& c : curves_of(rows)) {
    if (c.axis != axis) {
      charts += fmt::format("{}<h2>{}</h2>\n<div class=\"charts\">\n", axis.empty() ? "" : "</div>\n",
                            html_text(x_label(c.axis)));
      axis = c.axis;
    }
    charts += charts_of(c);
  }
  if (!axis.empty()) charts += "</div>\n";
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\"/>\n<title>How cost "
      "grows</title>\n<style>{}</style>\n</head>\n"
      "<body>\n<h1>How cost grows</h1>\n<p>{}</p>\n<p>{}</p>\n{}<h2>Every row</h2>\n{}</body>\n</html>\n",
      kStyle, html_text(subtitle), html_text(kText), charts, table_of(rows));
}

}  // namespace llmctl
