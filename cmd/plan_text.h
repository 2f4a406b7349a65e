// SPDX-License-Identifier: Apache-2.0
// Plans as `llmctl model plan` prints them.
#pragma once

#include "parallel/search.h"

namespace llmctl {

Json lines_json(const std::vector<MemoryLine>& lines);
std::string lines_text(const std::vector<MemoryLine>& lines);
Json layout_json(const Layout& layout);
Json prediction_json(const Prediction& p);
// Tables of the first `shown`, and where the first one's memory, time and traffic go.
std::string layouts_text(const std::vector<LayoutPlan>& plans, int64_t device_memory, int shown);
std::string predictions_text(const std::vector<Prediction>& found, int64_t devices, const Hardware& hardware, int shown);
// The pipeline schedule of a layout over so many units of a replica: what each rank does when, its idle share and the
// chunks of units it holds at most. Forward and the halves of backward take a slot each, recompute of blocks one more.
std::string drawing_text(const Layout& layout, int64_t units, bool recomputes_blocks);

}  // namespace llmctl
