// SPDX-License-Identifier: Apache-2.0
// The report page, its charts, and TensorBoard's event files.
#include "core/train/report.h"

#include <unistd.h>

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/base/svg.h"
#include "core/train/tensorboard.h"
#include "tests/scratch.h"

using namespace llmctl;

namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

std::string refused(const fs::path& run) {
  try {
    report_of_run(run);
  } catch (const Error& e) {
    REQUIRE(e.code == Code::input);
    return e.what();
  }
  return "";
}

uint64_t little_endian(const std::string& bytes, size_t at, size_t n) {
  uint64_t out = 0;
  for (size_t i = 0; i < n; ++i) out |= uint64_t{static_cast<unsigned char>(bytes.at(at + i))} << (8 * i);
  return out;
}

// The payloads of a TFRecord file, checksums verified.
std::vector<std::string> records(const fs::path& path) {
  const std::string file = read_file(path);
  std::vector<std::string> out;
  for (size_t at = 0; at < file.size();) {
    const size_t length = little_endian(file, at, 8);
    REQUIRE(little_endian(file, at + 8, 4) == masked_crc32c(file.substr(at, 8)));
    out.push_back(file.substr(at + 12, length));
    REQUIRE(little_endian(file, at + 12 + length, 4) == masked_crc32c(out.back()));
    at += length + 16;
  }
  return out;
}

}  // namespace

TEST_CASE("CRC-32C has the vectors of RFC 3720", "[report]") {
  REQUIRE(crc32c("123456789") == 0xe3069283u);
  REQUIRE(crc32c(std::string(32, '\0')) == 0x8a9136aau);
  REQUIRE(crc32c(std::string(32, '\xff')) == 0x62a8ab43u);
  REQUIRE(crc32c("") == 0);
}

TEST_CASE("logarithmic axes: equal factors are equal lengths, and what is not above 0 is left out", "[report]") {
  const auto xs = [](const std::string& svg) {
    std::vector<double> out;
    for (size_t at = svg.find(" cx=\""); at != std::string::npos; at = svg.find(" cx=\"", at + 1))
      out.push_back(std::stod(svg.substr(at + 5)));
    return out;
  };
  Chart chart{.title = "t", .x_label = "x", .y_label = "y", .log_x = true, .log_y = true};
  chart.series = {{.label = "s", .x = {0, 10, 100, 1000}, .y = {1, 1, 10, 100}, .dots = true}};
  const std::string svg = line_chart(chart);
  const std::vector<double> at = xs(svg);
  REQUIRE(at.size() == 3);
  CHECK(at[1] - at[0] == Approx(at[2] - at[1]).margin(0.2));
  CHECK(svg.find("100 at x 1000") != std::string::npos);
  CHECK(svg.find(">200<") != std::string::npos);  // ticks at 1, 2 and 5
  CHECK(svg.find("nan") == std::string::npos);
  chart.log_x = false;
  CHECK(xs(line_chart(chart)).size() == 4);
}

TEST_CASE("event files hold framed events", "[report]") {
  ScratchFolder f;
  fs::path first, second;
  {
    EventWriter writer(f.path / "events", 0);
    writer.scalar(300, "train/loss", 1.5f);
    first = writer.path();
  }
  {
    EventWriter writer(f.path / "events", 7);
    second = writer.path();
  }
  REQUIRE(first != second);
  const auto events = records(first);
  REQUIRE(events.size() == 2);
  // wall_time (field 1, fixed64), step (field 2) 0, file_version (field 3)
  REQUIRE(events[0].substr(9) == std::string("\x10\x00\x1a\x0d", 4) + "brain.Event:2");
  const double time = std::bit_cast<double>(little_endian(events[0], 1, 8));
  REQUIRE(time > 1.6e9);
  // step 300; summary (field 5) of one value: tag (1), simple_value (2, fixed32)
  REQUIRE(events[1].substr(9) ==
          std::string("\x10\xac\x02\x2a\x13\x0a\x11\x0a\x0atrain/loss\x15\x00\x00\xc0\x3f", 24));
  const auto resumed = records(second);
  REQUIRE(resumed.size() == 2);
  REQUIRE(resumed[1].substr(9) == std::string("\x10\x07\x3a\x02\x08\x01"));  // SessionLog START at step 7
}

TEST_CASE("an event folder that cannot be made is code 7", "[report]") {
  ScratchFolder f;
  write_file(f.path / "file", "x", false);
  try {
    EventWriter writer(f.path / "file" / "events", 0);
    FAIL("made");
  } catch (const Error& e) {
    REQUIRE(e.code == Code::io);
  }
}

TEST_CASE("text is escaped for HTML", "[report]") {
  REQUIRE(html_text("a<b> & \"c\"\n") == "a&lt;b&gt; &amp; &quot;c&quot;\n");
  REQUIRE(html_text("x\xff\x01y") == "x\xEF\xBF\xBD\xEF\xBF\xBDy");
  REQUIRE(html_text("caf\xC3\xA9") == "caf\xC3\xA9");
}

TEST_CASE("short numbers", "[report]") {
  REQUIRE(short_number(0) == "0");
  REQUIRE(short_number(0.30000000000000004) == "0.3");
  REQUIRE(short_number(12345.6) == "12.35k");
  REQUIRE(short_number(2.5e6) == "2.5M");
  REQUIRE(short_number(0.00031) == "3.1e-4");
  REQUIRE(short_number(0.0001) == "1e-4");
  REQUIRE(short_number(-5e-7) == "-5e-7");
  REQUIRE(short_number(123456, 6) == "123456");
  REQUIRE(short_number(std::nan("")) == "nan");
}

TEST_CASE("charts leave out what is not finite and thin what is long", "[report]") {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  REQUIRE(line_chart({"t", "x", "y", {}, false}).empty());
  REQUIRE(line_chart({"t", "x", "y", {{"a", {1, 2}, {nan, inf}}}, false}).empty());
  const std::string one = line_chart({"t", "x", "y", {{"a", {1}, {5}}}, false});
  REQUIRE(count(one, "<circle") == 1);
  REQUIRE(one.find("nan") == std::string::npos);
  ChartSeries longer{"a", {}, {}};
  for (int i = 0; i < 100000; ++i) longer.x.push_back(i), longer.y.push_back(i == 50000 ? 10.0 : 0.0);
  const std::string svg = line_chart({"t", "x", "y", {longer}, false});
  REQUIRE(svg.size() < 40000);
  REQUIRE(svg.find(" 34.0L") != std::string::npos);  // the one high point still reaches the top
}

TEST_CASE("a run folder becomes a page", "[report]") {
  ScratchFolder f;
  write_file(f.path / "run.json",
             R"({"config": {"lr": 0.001, "name": "<b>"}, "inputs": [{"path": "x"}], "e": []})", false);
  std::string metrics;
  for (int i = 1; i <= 150; ++i)
    metrics += "{\"step\": " + std::to_string(i) + ", \"loss\": " + std::to_string(5.0 / i) +
               ", \"grad_norm\": null, \"val_loss\": 1.25}\n";
  metrics += "{\"step\": 150, \"loss\": 0.125}\n{\"step\": 151, \"lo";
  write_file(f.path / "metrics.jsonl", metrics, false);
  ReportInput input = report_of_run(f.path);
  REQUIRE(input.metrics.size() == 150);
  REQUIRE(input.metrics.back()["loss"] == 0.125);
  REQUIRE(input.figures.size() == 3);
  REQUIRE(input.figures[0].first == "150");
  input.tables.push_back({"Arithmetic", {"kind", "exact"}, {{"3-digit +", "98.0 %"}, {"2 x 1"}}, "by hash"});
  input.samples.push_back({"2+2=", "4 <end>"});
  const std::string page = render_report(input);
  REQUIRE(count(page, "<svg") == 1);  // only the loss has points
  REQUIRE(count(page, "series-0 faint") > 0);
  for (const char* part : {"config.lr", "inputs[0].path", "&lt;b&gt;", "98.0 %", "4 &lt;end&gt;", "by hash"})
    REQUIRE(page.find(part) != std::string::npos);
  for (const char* part : {"<script", "http://", "https://", "url("})
    REQUIRE(count(page, part) == (std::strcmp(part, "http://") == 0 ? 1 : 0));  // the SVG name space
}

TEST_CASE("a run folder that cannot be read is one line", "[report]") {
  ScratchFolder f;
  REQUIRE(refused(f.path) != "");
  write_file(f.path / "run.json", "{}", false);
  REQUIRE(refused(f.path) != "");
  write_file(f.path / "metrics.jsonl", "{\"step\": 1}\nrubbish\n{\"step\": 2}\n", false);
  REQUIRE(refused(f.path).find("metrics.jsonl:2") != std::string::npos);
  write_file(f.path / "metrics.jsonl", "", true);
  REQUIRE(count(render_report(report_of_run(f.path)), "<svg") == 0);
}
