// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/svg.h"
#include "data/pipeline/predicates.h"
#include "data/pipeline/report.h"
#include "data/pipeline/run.h"
#include "data/pipeline/stages.h"

namespace llmctl {
namespace {

// Of each part: the value of every document that was extracted, and whether all other rules keep it.
struct Values {
  std::vector<double> value;
  std::vector<bool> others;
};

Values values_of(const Predicates& predicates, size_t asked, const fs::path& columns_file,
                 const fs::path& verdicts_file) {
  const Columns columns = predicates.load(columns_file);
  const Columns verdicts = Columns::load(verdicts_file, {"rule"});
  const Rule& rule = *predicates.rule(asked);
  const Column& signal = columns.get(predicates.recipe().columns()[static_cast<size_t>(rule.column)]);
  Values out;
  for (uint64_t d = 0; d < columns.rows(); ++d) {
    if (verdicts.get("rule").integers[d] != 0) continue;
    bool others = true;
    for (size_t p = 0; others && p < predicates.names().size(); ++p)
      others = p == asked || !predicates.fails(columns, d, p);
    out.value.push_back(signal.value(d));
    out.others.push_back(others);
  }
  return out;
}

size_t find_rule(const Predicates& predicates, const std::string& name) {
  const auto& names = predicates.names();
  const auto at = std::find(names.begin(), names.end(), name);
  if (at != names.end() && predicates.rule(static_cast<size_t>(at - names.begin())))
    return static_cast<size_t>(at - names.begin());
  const std::string near = closest_name(name, names);
  throw Error(Code::usage,
              "[data] the run has no rule " + name + (near.empty() ? "" : ", did you mean " + near + "?"));
}

// Quantiles of at most a million values, and the run's threshold.
std::vector<double> grid_of(std::vector<double> sample, double threshold, size_t points) {
  std::erase_if(sample, [](double v) { return !std::isfinite(v); });
  std::sort(sample.begin(), sample.end());
  std::vector<double> grid = {threshold};
  for (size_t p = 0; p <= points && !sample.empty(); ++p)
    grid.push_back(sample[(sample.size() - 1) * p / points]);
  std::sort(grid.begin(), grid.end());
  grid.erase(std::unique(grid.begin(), grid.end()), grid.end());
  return grid;
}

}  // namespace

WhatIf what_if(const fs::path& folder, const std::string& name, size_t points) {
  const PipelineConfig config = pipeline_config_of(folder);
  const Predicates predicates(config);
  const size_t asked = find_rule(predicates, name);
  const Rule& rule = *predicates.rule(asked);
  WhatIf out{.rule = name,
             .signal = predicates.recipe().columns()[static_cast<size_t>(rule.column)],
             .drops_below = rule.drop == Drop::below,
             .threshold = rule.threshold};
  const size_t parts = read_json(folder / "run.json")["inputs"].size();
  const StageFolder extracted(folder / folder_of("extract"), "");
  const auto values = [&](size_t p) {
    const auto n = static_cast<uint32_t>(p);
    return values_of(predicates, asked, extracted.file(n, "columns"), extracted.file(n, "verdicts"));
  };
  std::vector<double> sample;
  const size_t of_each = std::max<size_t>(100, 1000000 / std::max<size_t>(1, parts));
  for (size_t p = 0; p < parts; ++p) {
    const Values v = values(p);
    const size_t stride = v.value.size() / of_each + 1;
    for (size_t i = 0; i < v.value.size(); i += stride) sample.push_back(v.value[i]);
  }
  for (const double t : grid_of(std::move(sample), rule.threshold, points)) out.points.push_back({t, 0, 0});
  for (size_t p = 0; p < parts; ++p) {
    const Values v = values(p);
    out.documents += v.value.size();
    for (size_t i = 0; i < v.value.size(); ++i)
      for (WhatIf::Point& point : out.points) {
        Rule moved = rule;
        moved.threshold = point.threshold;
        if (moved.drops(v.value[i])) continue;
        ++point.alone;
        point.kept += v.others[i] ? 1 : 0;
      }
  }
  return out;
}

Json WhatIf::json() const {
  Json list = Json::array();
  for (const Point& p : points)
    list.push_back({{"threshold", p.threshold}, {"alone", p.alone}, {"kept", p.kept}});
  return {{"rule", rule},           {"signal", signal},       {"drops", drops_below ? "below" : "above"},
          {"threshold", threshold}, {"documents", documents}, {"points", list}};
}

std::string WhatIf::text() const {
  const double all = documents > 0 ? static_cast<double>(documents) : 1;
  std::string out = fmt::format("{}: documents go {} {} of {}\n{:>14}  {:>10}  {:>18}", rule,
                                drops_below ? "below" : "above", threshold, signal, "threshold", "this rule",
                                "with every rule");
  for (const Point& p : points)
    out += fmt::format("\n{:>14.6g}  {:>8.2f} %  {:>16.2f} %{}", p.threshold,
                       100 * static_cast<double>(p.alone) / all, 100 * static_cast<double>(p.kept) / all,
                       p.threshold == threshold ? "  <- now" : "");
  return out;
}

std::string WhatIf::chart() const {
  ChartSeries alone{.label = "this rule alone", .colour = 0}, kept{.label = "with every rule", .colour = 1};
  const double all = documents > 0 ? static_cast<double>(documents) : 1;
  for (const Point& p : points) {
    alone.x.push_back(p.threshold), kept.x.push_back(p.threshold);
    alone.y.push_back(static_cast<double>(p.alone) / all),
        kept.y.push_back(static_cast<double>(p.kept) / all);
  }
  return line_chart(
      {.title = rule, .x_label = "threshold", .y_label = "kept", .series = {alone, kept}, .from_zero = true});
}

}  // namespace llmctl
