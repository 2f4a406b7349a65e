// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/pre_tokenizer.h"

#include <algorithm>

#include "data/text/json_fields.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/split_proof.h"
#include "data/tokenizer/word_splits.h"

namespace llmctl {

PreTokenizer::PreTokenizer(const Json& json) {
  add(json, 0);
  if (const auto family = known_family()) {
    splitter_.emplace(*family);
    prove();
  }
}

std::optional<SplitFamily> PreTokenizer::known_family() const {
  const auto isolates = [](const Step& s) {
    return s.kind == Step::Kind::regex && s.behavior == Behavior::isolated && !s.invert;
  };
  if (steps_.size() == 1) {
    const Step& s = steps_.front();  // these patterns leave no gaps that could be removed
    const bool keeps = s.kind == Step::Kind::regex && s.behavior == Behavior::removed && s.invert;
    return isolates(s) || keeps ? family_of(s.text) : std::nullopt;
  }
  for (const Step& s : steps_)
    if (!isolates(s)) return std::nullopt;
  if (steps_.size() == 2 && steps_[0].text == "\\p{N}" && family_of(steps_[1].text) == SplitFamily::gpt2)
    return SplitFamily::starcoder;
  const std::vector<std::string> deepseek = deepseek_patterns();
  const auto same = [](const Step& s, const std::string& pattern) { return s.text == pattern; };
  if (std::equal(steps_.begin(), steps_.end(), deepseek.begin(), deepseek.end(), same))
    return SplitFamily::deepseek3;
  return std::nullopt;
}

void PreTokenizer::prove() const {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    const std::string text = adversarial_text(seed, seed == 1 ? 400 : 60, seed % 4 == 0);
    const Pieces right = cut_by_steps(text, true);
    size_t i = 0, at = 0;
    for_each_piece(text, true, [&](std::string_view piece) {
      const bool same =
          i < right.ranges.size() && right.ranges[i].begin == at && right.ranges[i].end == at + piece.size();
      check(same, Code::bug, "[tokenizer] the splitter for ", name_of(splitter_->family()),
            " and its pattern differ at byte ", at, " of proof text ", seed,
            "; the tokenizer is refused, please report this");
      at += piece.size();
      ++i;
    });
  }
}

void PreTokenizer::add(const Json& json, int depth) {
  if (json.is_null()) return;
  check(depth < 8, Code::input, "[tokenizer] pre_tokenizers nest deeper than 8");
  const std::string type = type_field(json);
  check(!byte_level_, Code::unsupported, "[tokenizer] pre_tokenizer '", type,
        "' after ByteLevel is not offered");
  if (type == "Sequence") {
    const Json& list = field(json, "pretokenizers");
    check(list.is_array(), Code::input, "[tokenizer] 'pretokenizers' is not a list");
    for (const Json& item : list) add(item, depth + 1);
  } else if (type == "Split") {
    add_split(json);
  } else if (type == "ByteLevel") {
    add_byte_level(json);
  } else if (type == "Metaspace") {
    add_metaspace(json);
  } else if (type == "Digits") {
    Step step{.kind = Step::Kind::regex};
    step.behavior = bool_field(json, "individual_digits", false) ? Behavior::isolated : Behavior::contiguous;
    step.text = "\\p{N}";
    step.regex.emplace_back(step.text);
    steps_.push_back(std::move(step));
  } else if (const Json splits = as_splits(type, json); !splits.is_null()) {
    for (const Json& one : splits) add(one, depth + 1);
  } else {
    throw Error(Code::unsupported, "[tokenizer] pre_tokenizer '" + type + "' is not offered");
  }
}

void PreTokenizer::add_split(const Json& json) {
  const Json& pattern = field(json, "pattern");
  check(pattern.is_object(), Code::input, "[tokenizer] Split pattern is not an object");
  Step step{.kind = Step::Kind::regex};
  if (pattern.contains("Regex")) {
    step.text = string_field(pattern, "Regex");
    step.regex.emplace_back(step.text);
  } else {
    step.kind = Step::Kind::literal;
    step.text = string_field(pattern, "String");
    check(!step.text.empty(), Code::input, "[tokenizer] Split pattern is empty");
  }
  step.invert = bool_field(json, "invert", false);
  const std::string name = string_field(json, "behavior");
  if (name == "Removed")
    step.behavior = Behavior::removed;
  else if (name == "Isolated")
    step.behavior = Behavior::isolated;
  else if (name == "MergedWithPrevious")
    step.behavior = Behavior::with_previous;
  else if (name == "MergedWithNext")
    step.behavior = Behavior::with_next;
  else if (name == "Contiguous")
    step.behavior = Behavior::contiguous;
  else
    throw Error(Code::input, "[tokenizer] Split behavior '" + name + "' is unknown");
  steps_.push_back(std::move(step));
}

void PreTokenizer::add_byte_level(const Json& json) {
  if (bool_field(json, "add_prefix_space", true)) {
    Step step{.kind = Step::Kind::prefix_space};
    step.text = " ";
    step.always = true;
    steps_.push_back(std::move(step));
  }
  if (bool_field(json, "use_regex", true)) {
    Step step{.kind = Step::Kind::regex};
    step.text = named_pattern("gpt2");
    step.regex.emplace_back(step.text);
    steps_.push_back(std::move(step));
  }
  byte_level_ = true;
}

void PreTokenizer::add_metaspace(const Json& json) {
  Step step{.kind = Step::Kind::metaspace};
  step.text = string_field(json, "replacement");
  check(!step.text.empty(), Code::input, "[tokenizer] Metaspace replacement is empty");
  std::string scheme = bool_field(json, "add_prefix_space", true) ? "always" : "never";
  if (json.contains("prepend_scheme")) scheme = string_field(json, "prepend_scheme");
  check(scheme == "always" || scheme == "first" || scheme == "never", Code::input,
        "[tokenizer] Metaspace prepend_scheme '", scheme, "' is unknown");
  step.always = scheme == "always";
  step.first = scheme == "first";
  Step cut{.kind = Step::Kind::literal, .behavior = Behavior::with_next};
  cut.text = step.text;
  steps_.push_back(std::move(step));
  if (bool_field(json, "split", true)) steps_.push_back(std::move(cut));
}

Pieces PreTokenizer::cut(std::string section, bool at_start) const {
  if (!splitter_) return cut_by_steps(std::move(section), at_start);
  Pieces pieces;
  for_each_piece(section, at_start, [&](std::string_view piece) {
    const size_t begin = pieces.ranges.empty() ? 0 : pieces.ranges.back().end;
    pieces.ranges.push_back({begin, begin + piece.size()});
  });
  pieces.text = std::move(section);
  return pieces;
}

Pieces PreTokenizer::cut_by_steps(std::string section, bool at_start) const {
  Pieces pieces;
  pieces.text = std::move(section);
  if (!pieces.text.empty()) pieces.ranges.push_back({0, pieces.text.size()});
  for (const Step& step : steps_) {
    if (step.kind == Step::Kind::prefix_space || step.kind == Step::Kind::metaspace)
      prefix(step, pieces, at_start);
    else
      split(step, pieces);
  }
  return pieces;
}

void PreTokenizer::prefix(const Step& step, Pieces& pieces, bool at_start) {
  Pieces changed;
  for (const Range& r : pieces.ranges) {
    std::string piece = pieces.text.substr(r.begin, r.end - r.begin);
    if (step.kind == Step::Kind::metaspace) piece = replace_all(piece, " ", step.text);
    const bool wanted = step.always || (step.first && at_start && r.begin == 0);
    if (wanted && piece.compare(0, step.text.size(), step.text) != 0) piece.insert(0, step.text);
    const size_t begin = changed.text.size();
    changed.text += piece;
    changed.ranges.push_back({begin, changed.text.size()});
  }
  pieces = std::move(changed);
}

void PreTokenizer::find(const Step& step, std::string_view piece, std::vector<Range>& out) {
  if (step.kind == Step::Kind::regex) return step.regex.front().find(piece, out);
  for (size_t at = 0, hit; (hit = piece.find(step.text, at)) != std::string_view::npos;
       at = hit + step.text.size())
    out.push_back({hit, hit + step.text.size()});
}

namespace {

struct Part {
  Range range;
  bool match;
};

// The whole piece as matches and the gaps between them.
void cover(const std::vector<Range>& found, size_t size, bool invert, std::vector<Part>& parts) {
  size_t at = 0;
  for (const Range& r : found) {
    if (r.begin > at) parts.push_back({{at, r.begin}, invert});
    parts.push_back({r, !invert});
    at = r.end;
  }
  if (at < size) parts.push_back({{at, size}, invert});
}

// A match joins its neighbour unless that neighbour took part in a join as a match itself.
void join_previous(std::vector<Part>& parts) {
  std::vector<Part> joined;
  bool before = false;
  for (const Part& p : parts) {
    if (p.match && !before && !joined.empty())
      joined.back().range.end = p.range.end;
    else
      joined.push_back(p);
    before = p.match;
  }
  parts = std::move(joined);
}

void join_next(std::vector<Part>& parts) {
  std::vector<Part> joined;
  bool after = false;
  for (auto p = parts.rbegin(); p != parts.rend(); ++p) {
    if (p->match && !after && !joined.empty())
      joined.back().range.begin = p->range.begin;
    else
      joined.push_back(*p);
    after = p->match;
  }
  std::reverse(joined.begin(), joined.end());
  parts = std::move(joined);
}

void join_contiguous(std::vector<Part>& parts) {
  std::vector<Part> joined;
  for (const Part& p : parts) {
    if (!joined.empty() && joined.back().match == p.match)
      joined.back().range.end = p.range.end;
    else
      joined.push_back(p);
  }
  parts = std::move(joined);
}

}  // namespace

void PreTokenizer::split(const Step& step, Pieces& pieces) {
  std::vector<Range> ranges, found;
  std::vector<Part> parts;
  for (const Range& r : pieces.ranges) {
    found.clear();
    parts.clear();
    find(step, std::string_view(pieces.text).substr(r.begin, r.end - r.begin), found);
    cover(found, r.end - r.begin, step.invert, parts);
    if (step.behavior == Behavior::with_previous) join_previous(parts);
    if (step.behavior == Behavior::with_next) join_next(parts);
    if (step.behavior == Behavior::contiguous) join_contiguous(parts);
    for (const Part& p : parts)
      if (!(step.behavior == Behavior::removed && p.match))
        ranges.push_back({r.begin + p.range.begin, r.begin + p.range.end});
  }
  pieces.ranges = std::move(ranges);
}

}  // namespace llmctl
