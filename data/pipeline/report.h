// SPDX-License-Identifier: Apache-2.0
// What a run did, from what its stages left on disk: no text is read again.
#pragma once

#include <vector>

#include "core/base/file.h"
#include "core/base/json.h"

namespace llmctl {

// {documents_in, documents_out, bytes_in, bytes_out, dropped{rule: n}, skipped{}, repaired{}, digest (null
// until the run is done), stages [{name, documents_in, kept, bytes_in, bytes_kept, dropped, seconds,
// documents_per_second, bytes_per_second, threads, peak_memory, extra}], sources {name: {documents_in,
// documents_out, dropped}}} of the stages that are finished. Error{input} when the folder holds no run.
Json run_report(const fs::path& folder);
// The same for people.
std::string report_text(const Json& report);

// What any threshold of a rule would keep, all others as they are; from the columns of the run.
struct WhatIf {
  struct Point {
    double threshold = 0;
    uint64_t alone = 0;  // documents this rule keeps
    uint64_t kept = 0;   // of them, those that every other rule keeps
  };
  std::string rule, signal;
  bool drops_below = false;
  double threshold = 0;       // as the run had it
  uint64_t documents = 0;     // extracted with text
  std::vector<Point> points;  // rising thresholds
  Json json() const;
  std::string text() const;
  std::string chart() const;  // SVG
};
// Up to `points` thresholds at quantiles of the signal, and the run's own. Error{usage} for a rule the run
// does not have, with the nearest.
WhatIf what_if(const fs::path& folder, const std::string& rule, size_t points = 20);

// One page: the tables, and the curve of each rule that dropped anything.
std::string report_html(const fs::path& folder, const Json& report);

}  // namespace llmctl
