// SPDX-License-Identifier: Apache-2.0
#include "core/base/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/json.h"

namespace llmctl {
namespace {

constexpr double kWidth = 560, kHeight = 280, kLeft = 58, kRight = 14, kTop = 34, kBottom = 40;

struct Range {
  double low = 0, high = 1;
  bool log = false;
  double at(double v) const {
    return log ? std::log(v / low) / std::log(high / low) : (v - low) / (high - low);
  }
};

struct Point {
  double x, y;
};

std::vector<Point> drawn_points(const ChartSeries& s, const Chart& chart) {
  const auto drawn = [](double v, bool log) { return std::isfinite(v) && (!log || v > 0); };
  std::vector<Point> out;
  for (size_t i = 0; i < std::min(s.x.size(), s.y.size()); ++i)
    if (drawn(s.x[i], chart.log_x) && drawn(s.y[i], chart.log_y)) out.push_back({s.x[i], s.y[i]});
  return out;
}

// The least and the greatest point of each slice, in order, when there are too many to draw.
std::vector<Point> thinned(const std::vector<Point>& all) {
  constexpr size_t kSlices = 400;
  if (all.size() <= 2 * kSlices) return all;
  std::vector<Point> out = {all.front()};
  for (size_t slice = 0; slice < kSlices; ++slice) {
    const auto begin = all.begin() + static_cast<ptrdiff_t>(all.size() * slice / kSlices);
    const auto end = all.begin() + static_cast<ptrdiff_t>(all.size() * (slice + 1) / kSlices);
    auto [least, greatest] =
        std::minmax_element(begin, end, [](const Point& a, const Point& b) { return a.y < b.y; });
    if (least > greatest) std::swap(least, greatest);
    out.push_back(*least);
    if (greatest != least) out.push_back(*greatest);
  }
  out.push_back(all.back());
  return out;
}

// A step of 1, 2 or 5 times a power of ten that cuts the range into about `wanted` pieces.
double tick_step(double range, int wanted) {
  const double raw = range / wanted, power = std::pow(10.0, std::floor(std::log10(raw)));
  for (double factor : {1.0, 2.0, 5.0})
    if (raw <= factor * power * 1.0000001) return factor * power;
  return 10 * power;
}

// 1, 2 and 5 times each power of ten, or the powers alone when they are many.
std::vector<double> log_ticks(const Range& range) {
  const bool few = std::log10(range.high / range.low) <= 3;
  std::vector<double> out;
  for (double power = std::pow(10.0, std::floor(std::log10(range.low))); power <= range.high; power *= 10)
    for (double factor : {1.0, 2.0, 5.0}) {
      const double v = factor * power;
      if ((few || factor == 1) && v >= range.low * (1 - 1e-9) && v <= range.high * (1 + 1e-9)) out.push_back(v);
    }
  return out;
}

std::vector<double> ticks(const Range& range, int wanted) {
  if (range.log) return log_ticks(range);
  const double step = tick_step(range.high - range.low, wanted);
  std::vector<double> out;
  for (double k = std::ceil(range.low / step - 1e-9); k * step <= range.high + step * 1e-9; ++k)
    out.push_back(k * step + 0.0);  // + 0.0: no "-0"
  return out;
}

Range range_of(const std::vector<std::vector<Point>>& lines, double Point::*side, bool from_zero) {
  double low = INFINITY, high = -INFINITY;
  for (const auto& line : lines)
    for (const Point& p : line) low = std::min(low, p.*side), high = std::max(high, p.*side);
  if (from_zero) low = std::min(low, 0.0), high = std::max(high, 0.0);
  if (!(high - low > 1e-12 * std::max(std::fabs(low), std::fabs(high)))) {  // one value: room around it
    const double room = low == 0 ? 1 : std::fabs(low) * 0.1;
    return {low - room, high + room};
  }
  return {low, high};
}

struct Frame {
  Range x, y;
  double left(double v) const { return kLeft + x.at(v) * (kWidth - kLeft - kRight); }
  double top(double v) const { return kHeight - kBottom - y.at(v) * (kHeight - kTop - kBottom); }
};

std::string axes(const Chart& chart, const Frame& f) {
  std::string out;
  for (double t : ticks(f.y, 5))
    out += fmt::format(
        "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text class=\"label\" text-anchor=\"end\" x=\"{}\" y=\"{:.1f}\">{}</text>\n",
        kLeft, kWidth - kRight, f.top(t), f.top(t), kLeft - 6, f.top(t) + 4, short_number(t));
  for (double t : ticks(f.x, 6))
    out += fmt::format(
        "<line class=\"axis\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\"/>"
        "<text class=\"label\" text-anchor=\"middle\" x=\"{0:.1f}\" y=\"{3}\">{4}</text>\n",
        f.left(t), kHeight - kBottom, kHeight - kBottom + 4, kHeight - kBottom + 17, short_number(t));
  out += fmt::format("<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>", kLeft, kWidth - kRight,
                     kHeight - kBottom, kHeight - kBottom);
  out += fmt::format("<text class=\"label\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text>", kWidth - kRight,
                     kHeight - 6, html_text(chart.x_label));
  return out + fmt::format("<text class=\"label\" x=\"4\" y=\"{}\">{}</text>\n", kTop - 12,
                           html_text(chart.y_label));
}

std::string style_of(const ChartSeries& s) {
  return fmt::format("series-{}{}", s.colour, s.faint ? " faint" : "");
}

std::string line(const ChartSeries& s, const std::vector<Point>& points, const Frame& f) {
  std::string path;
  for (const Point& p : thinned(points))
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", f.left(p.x), f.top(p.y));
  return fmt::format("<path class=\"line {}\" d=\"{}\"/>\n", style_of(s), path);
}

// Visible dots where asked for, and at most 60 places that tell their values.
std::string dots(const ChartSeries& s, const std::vector<Point>& points, const Frame& f,
                 const std::string& x_label) {
  constexpr size_t kMost = 60;
  std::string out;
  const size_t shown = std::min(points.size(), kMost);
  for (size_t i = 0; i < shown; ++i) {
    const Point& p = points[shown == 1 ? 0 : i * (points.size() - 1) / (shown - 1)];
    out += fmt::format(
        "<circle class=\"{} {}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\"><title>{}: {} at {} "
        "{}</title></circle>",
        s.dots || points.size() == 1 ? "dot" : "hover", style_of(s), f.left(p.x), f.top(p.y),
        s.dots || points.size() == 1 ? "3" : "6", html_text(s.label), short_number(p.y, 6),
        html_text(x_label), short_number(p.x, 8));
  }
  return out + "\n";
}

// From the right edge leftwards; widths are guessed at 6.4 units a byte.
std::string legend(const std::vector<ChartSeries>& series) {
  std::string out;
  double right = kWidth - kRight;
  for (auto s = series.rbegin(); s != series.rend(); ++s) {
    const double width = 6.4 * static_cast<double>(s->label.size());
    out += fmt::format(
        "<text class=\"label\" x=\"{:.0f}\" y=\"16\">{}</text>"
        "<line class=\"line {}\" x1=\"{:.0f}\" x2=\"{:.0f}\" y1=\"12\" y2=\"12\"/>\n",
        right - width, html_text(s->label), style_of(*s), right - width - 22, right - width - 6);
    right -= width + 36;
  }
  return out;
}

}  // namespace

std::string html_text(std::string_view text) {
  // The JSON writer replaces malformed UTF-8; its own reader takes the escapes off again.
  const std::string safe =
      Json::parse(Json(std::string(text)).dump(-1, ' ', false, Json::error_handler_t::replace))
          .get<std::string>();
  std::string out;
  for (char c : safe) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\n':
      case '\t':
        out += c;
        break;
      default:
        if ((c >= 0 && c < 0x20) || c == 0x7f)
          out += "\xEF\xBF\xBD";
        else
          out += c;
    }
  }
  return out;
}

std::string short_number(double value, int digits) {
  if (!std::isfinite(value)) return value > 0 ? "inf" : value < 0 ? "-inf" : "nan";
  const double size = std::fabs(value);
  if (size != 0 && size < 1e-3) {  // 3.1e-4, not 3.1e-04
    std::string out = fmt::format("{:.{}e}", value, std::min(digits - 1, 2));
    const size_t e = out.find('e'), dot = out.find('.');
    std::string mantissa = out.substr(0, e);
    while (dot != std::string::npos && (mantissa.back() == '0' || mantissa.back() == '.')) {
      const bool point = mantissa.back() == '.';
      mantissa.pop_back();
      if (point) break;
    }
    return mantissa + "e" + std::to_string(std::stoi(out.substr(e + 1)));
  }
  if (digits <= 4) {
    if (size >= 1e9) return fmt::format("{:.{}g}G", value / 1e9, digits);
    if (size >= 1e6) return fmt::format("{:.{}g}M", value / 1e6, digits);
    if (size >= 1e4) return fmt::format("{:.{}g}k", value / 1e3, digits);
  }
  return fmt::format("{:.{}g}", value, digits);
}

std::string line_chart(const Chart& chart) {
  std::vector<ChartSeries> series;
  std::vector<std::vector<Point>> lines;
  for (const ChartSeries& s : chart.series) {
    auto points = drawn_points(s, chart);
    if (points.empty()) continue;
    lines.push_back(std::move(points));
    series.push_back(s);
  }
  if (series.empty()) return "";
  Frame frame{range_of(lines, &Point::x, false), range_of(lines, &Point::y, chart.from_zero)};
  // The y axis ends on ticks, so that the line keeps off the frame; a logarithmic one has a factor of room.
  const double step = tick_step(frame.y.high - frame.y.low, 5);
  if (chart.log_y)
    frame.y = {frame.y.low / 1.5, frame.y.high * 1.5, true};
  else
    frame.y = {std::floor(frame.y.low / step + 1e-9) * step, std::ceil(frame.y.high / step - 1e-9) * step};
  frame.x.log = chart.log_x;
  std::string out = fmt::format(
      "<svg viewBox=\"0 0 {} {}\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{}\">\n",
      kWidth, kHeight, html_text(chart.title));
  out += axes(chart, frame) + legend(series);
  for (size_t i = 0; i < series.size(); ++i) out += line(series[i], lines[i], frame);
  for (size_t i = 0; i < series.size(); ++i)
    if (!series[i].faint) out += dots(series[i], lines[i], frame, chart.x_label);
  return out + "</svg>\n";
}

}  // namespace llmctl
