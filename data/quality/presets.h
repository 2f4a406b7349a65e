// SPDX-License-Identifier: Apache-2.0
// The table of presets: for each its arguments with their published values, and how a text becomes signals.
//
//   gopher_repetition  gopher_quality  c4  fineweb  lines     as datatrove's filters of these names, and
//                                                            RefinedWeb's line rules as DCLM runs them
// Variants are presets that differ in values only:
//   c4_fineweb       c4 without the rule of terminal punctuation, as FineWeb runs it
//   fineweb_paper    dup_line_chars .1 (the paper's text; its appendix and code say .01)
//   gopher_quality_dclm   words between spaces, stop words counted in all, * is a bullet too
// and lists of presets:
//   fineweb_recipe   gopher_repetition gopher_quality c4_fineweb fineweb
//   refinedweb, dclm gopher_quality_dclm gopher_repetition lines (URL lists and languages are other stages)
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "data/quality/recipe.h"
#include "data/quality/words.h"

namespace llmctl {

// A text on its way through the presets, and what they share of it.
class FilteredText {
 public:
  explicit FilteredText(std::string text) : text_(std::move(text)) {}
  const std::string& text() const { return text_; }
  uint64_t chars();
  const std::vector<Word>& words(WordRule rule);
  uint64_t word_count(WordRule rule);
  // `marks`: words of the new text, when the edit counted them.
  void edit(std::string text, int64_t marks);
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
  std::vector<Word> words_[2];
  bool split_[2] = {false, false};
  int64_t marks_ = -1, chars_ = -1;
};

struct PresetRule {
  const char* name;
  const char* column;
  Drop drop;
  const char* argument;  // the threshold, or a fixed one when nullptr
  double fixed = 0;
};

// Signals of one text, in the order of the preset's columns; may edit the text.
using Annotator = std::function<void(FilteredText&, double* signals)>;

struct Preset {
  std::string name;
  Json arguments;  // every argument with its published value; null in a recipe switches a rule off
  std::vector<std::string> columns;
  std::vector<PresetRule> rules;
  Annotator (*annotator)(const Json& arguments) = nullptr;
};

// One preset, or those of a list. Error{input} for an unknown name, listing the known ones.
std::vector<const Preset*> find_presets(const std::string& name);

}  // namespace llmctl
