// SPDX-License-Identifier: Apache-2.0
// Texts with labels, from JSONL ({"text": "...", "categories": ["violence", ...]}, [] is safe; .gz
// and .zst too) or from the CSV of Davidson et al. 2017 ("labeled_data.csv": class 0 is `hate`,
// 1 is `offensive`, 2 is neither).
#pragma once

#include <string>
#include <vector>

#include "core/base/file.h"

namespace llmctl {

// The 13 categories of OpenAI's moderation object, in its order.
const std::vector<std::string>& openai_categories();

struct LabelledText {
  std::string text;         // valid UTF-8
  std::vector<int> labels;  // indices into LabelledTexts::categories, ascending, each once
};
struct LabelledTexts {
  std::vector<std::string> categories;
  std::vector<LabelledText> items;
};

struct LabelledSource {
  std::vector<std::string> inputs;  // files, folders, globs
  std::string format = "jsonl";     // jsonl or davidson
  std::string text_field = "text";  // jsonl
  std::string labels_field = "categories";
  std::vector<std::string> categories;  // empty: those of OpenAI's 13 (or of the format) that occur
};

// Error{input} with file and line for anything malformed: no texts, invalid UTF-8, a missing field,
// a label that is not in the list of categories.
LabelledTexts read_labelled(const LabelledSource& source);

}  // namespace llmctl
