// SPDX-License-Identifier: Apache-2.0
// Line charts as inline SVG for pages of our own. Colours come from the page: series i has class
// `series-i`, frame and text the classes `grid`, `axis` and `label` (core/train/report.cpp has them).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace llmctl {

// Text for HTML and SVG: <, >, &, " escaped, bytes that are not UTF-8 and control characters other
// than newline and tab replaced by U+FFFD.
std::string html_text(std::string_view text);

// 12345.6 as "12.3k", 0.00031 as "3.1e-4": at most `digits` significant digits.
std::string short_number(double value, int digits = 4);

struct ChartSeries {
  std::string label;
  std::vector<double> x, y;  // equal lengths, x rising; points that are not finite are left out
  int colour = 0;            // class series-<colour>
  bool faint = false;        // raw data behind a smoothed line
  bool dots = false;         // marks each point: for few
};

struct Chart {
  std::string title, x_label, y_label;
  std::vector<ChartSeries> series;
  bool from_zero = false;  // the y axis includes 0
  bool log_x = false, log_y = false;  // by powers of ten: points that are not above 0 are left out
};

// The chart, 560 x 280 user units, scaled by the page. Long series are drawn by the least and the
// greatest value of each of 400 slices. Points tell their values when hovered. Empty when no series
// has a point.
std::string line_chart(const Chart& chart);

}  // namespace llmctl
