// SPDX-License-Identifier: Apache-2.0
// Published quality rules as pure predicates over signals that are computed once.
//
// A recipe is a list of presets in order. annotate() makes every signal of every preset, also of those
// after a failing rule, so that another threshold can be tried on the stored columns alone; a document is
// dropped by the first rule, in the recipe's order, whose signal is beyond its threshold. A preset that
// edits (c4, refinedweb) hands the edited text to the presets after it, as FineWeb's order does.
//
//   [{"preset": "gopher_repetition"}, {"preset": "gopher_quality", "min_words": 40}, "fineweb"]
//
// Presets and their variants are in presets.h; resolved() names every argument (thresholds that a source
// changed silently between paper and code are variants of their own: fineweb .01, fineweb_paper .1).
// Ratios of characters count code points. Bytes that are no UTF-8 are U+FFFD before anything is counted.
// Threads: all members are const and may be called from any thread. bits: any-cpu
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"

namespace llmctl {

// A document goes when its signal is below (above) the threshold; a signal that is no number keeps it.
enum class Drop : uint8_t { below, above };

struct Rule {
  std::string name;  // "gopher_quality.short_doc": preset and rule, as drops are reported
  int column = 0;    // of Recipe::columns()
  Drop drop = Drop::above;
  double threshold = 0;
  bool drops(double signal) const { return drop == Drop::below ? signal < threshold : signal > threshold; }
};

struct Annotated {
  std::string text;             // valid UTF-8, after the edits of all presets
  std::vector<double> signals;  // one per column
};

class Recipe {
 public:
  // Error{input} for an unknown preset, variant or argument, naming the known ones. [] or null keeps all.
  explicit Recipe(const Json& filters);
  ~Recipe();
  Recipe(Recipe&&) noexcept;
  Recipe& operator=(Recipe&&) noexcept;

  const std::vector<std::string>& columns() const;  // "gopher_quality.words", ...
  const std::vector<Rule>& rules() const;           // in the order they are asked
  // The filters with every argument named: the same recipe when read again.
  Json resolved() const;
  // Linear in the text.
  Annotated annotate(std::string_view text) const;
  // nullptr when the document stays. signals.size() == columns().size().
  const Rule* first_failing(std::span<const double> signals) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace llmctl
