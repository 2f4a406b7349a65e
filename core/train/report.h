// SPDX-License-Identifier: Apache-2.0
// A run on one page: report.html stands alone (no script, no font, nothing fetched) and follows the
// reader's light or dark theme. Pure text in, text out; files are read by report_of_run only.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/base/file.h"
#include "core/base/json.h"

namespace llmctl {

struct ReportTable {
  std::string title;
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;  // shorter rows are padded; numbers are set to the right
  std::string note;                            // one line under it
};
struct ReportSample {
  std::string prompt, output;
};

struct ReportInput {
  std::string title;     // the run's name
  std::string subtitle;  // one line: what it was
  // Large figures at the top, value and caption: {"1.52", "nats per character held out"}.
  std::vector<std::pair<std::string, std::string>> figures;
  Json run = Json::object();  // run.json: every field becomes a row, nested ones as a.b.c
  // Objects of metrics.jsonl, by rising step. Drawn: loss, val_loss, learning_rate, grad_norm and
  // tokens_per_second against step; what is absent, null or not finite is left out.
  std::vector<Json> metrics;
  std::vector<ReportTable> tables;
  std::vector<ReportSample> samples;
};

// run.json and metrics.jsonl of a run folder, the figures filled from the last lines. A step written
// twice (a resumed run) counts once, the later line; an unfinished last line is left out.
// Error{input} when a file is missing or malformed.
ReportInput report_of_run(const fs::path& run);

std::string render_report(const ReportInput& input);

}  // namespace llmctl
