// SPDX-License-Identifier: Apache-2.0
#include "data/quality/presets.h"

#include <algorithm>
#include <limits>

#include "data/quality/signals.h"
#include "data/text/char_class.h"
#include "data/text/json_fields.h"

namespace llmctl {

uint64_t FilteredText::chars() {
  if (chars_ < 0) chars_ = static_cast<int64_t>(count_code_points(text_));
  return static_cast<uint64_t>(chars_);
}

const std::vector<Word>& FilteredText::words(WordRule rule) {
  const auto r = static_cast<size_t>(rule);
  if (!split_[r]) {
    words_[r].clear();
    words_[r].reserve(text_.size() / 5 + 8);
    split_words(text_, rule, words_[r]);
    split_[r] = true;
  }
  return words_[r];
}

uint64_t FilteredText::word_count(WordRule rule) {
  if (rule == WordRule::marks && marks_ >= 0) return static_cast<uint64_t>(marks_);
  return words(rule).size();
}

void FilteredText::edit(std::string text, int64_t marks) {
  if (text == text_) return;
  text_ = std::move(text);
  split_[0] = split_[1] = false;
  marks_ = marks;
  chars_ = -1;
}

namespace {

constexpr int64_t kCount = int64_t{1} << 40;

WordRule word_rule(const Json& a) {
  const std::string name = string_field(a, "words");
  check(name == "marks" || name == "spaces", Code::input, "[filters] words: \"", name, "\": marks or spaces");
  return name == "marks" ? WordRule::marks : WordRule::spaces;
}

// -1 for null: no such rule.
int64_t limit(const Json& a, const char* key) {
  return a.at(key).is_null() ? -1 : int_field(a, key, -1, kCount);
}

Annotator repetition(const Json& a) {
  return [rule = word_rule(a)](FilteredText& t, double* out) {
    const Repetition r = repetition_of(t.text(), t.chars(), t.words(rule));
    for (const double v :
         {r.chars, r.dup_para_frac, r.dup_para_char_frac, r.dup_line_frac, r.dup_line_char_frac})
      *out++ = v;
    out = std::copy(r.top.begin(), r.top.end(), out);
    std::copy(r.duplicate.begin(), r.duplicate.end(), out);
  };
}

Annotator gopher_quality(const Json& a) {
  const std::string stops = string_field(a, "stop_words");
  check(stops == "unique" || stops == "total", Code::input, "[filters] stop_words: \"", stops,
        "\": unique or total");
  const GopherOptions options{stops == "unique", bool_field(a, "asterisk_bullets", false)};
  return [rule = word_rule(a), options](FilteredText& t, double* out) {
    const GopherQuality q = gopher_quality_of(t.text(), t.words(rule), options);
    for (const double v : {q.words, q.mean_word_length, q.hash_ratio, q.ellipsis_ratio, q.bullet_lines,
                           q.ellipsis_lines, q.alpha_words, q.stop_words})
      *out++ = v;
  };
}

Annotator c4(const Json& a) {
  C4Options o;
  o.max_word_length = limit(a, "max_word_length");
  o.remove_citations = bool_field(a, "remove_citations", true);
  o.terminal_punctuation = bool_field(a, "terminal_punctuation", true);
  o.min_words_per_line = limit(a, "min_words_per_line");
  o.drop_javascript = bool_field(a, "drop_javascript", true);
  o.drop_policy = bool_field(a, "drop_policy", true);
  return [o](FilteredText& t, double* out) {
    std::string edited;
    const C4Signals s = apply_c4(t.text(), o, edited);
    t.edit(std::move(edited), static_cast<int64_t>(s.words));
    for (const double v : {s.lines, s.kept, s.long_words, s.no_terminal, s.few_words, s.javascript, s.policy,
                           s.lorem_ipsum, s.curly_bracket, s.sentences})
      *out++ = v;
  };
}

Annotator fineweb(const Json& a) {
  const auto length = static_cast<uint64_t>(int_field(a, "short_line_length", 0, kCount));
  const bool exclude_zero = bool_field(a, "line_punct_exclude_zero", false);
  return [length, exclude_zero, rule = word_rule(a)](FilteredText& t, double* out) {
    const FineWebSignals f = fineweb_of(t.text(), t.word_count(rule), length);
    const bool excluded = exclude_zero && f.line_punct == 0;
    out[0] = f.lines;
    out[1] = excluded ? std::numeric_limits<double>::quiet_NaN() : f.line_punct;
    out[2] = f.short_lines;
    out[3] = f.char_dup;
    out[4] = f.newline_ratio;
  };
}

Annotator lines(const Json& a) {
  LineOptions o;
  const auto share = [&](const char* key) { return a.at(key).is_null() ? 1. : a.at(key).get<double>(); };
  o.max_upper = share("max_upper");
  o.max_numeric = share("max_numeric");
  o.drop_counters = bool_field(a, "drop_counters", true);
  o.min_words = limit(a, "min_words_per_line");
  o.max_edit_words = limit(a, "max_edit_words");
  o.max_newlines = limit(a, "max_newlines");
  return [o](FilteredText& t, double* out) {
    std::string edited;
    const LineSignals s = apply_line_rules(t.text(), o, edited);
    t.edit(std::move(edited), -1);
    out[0] = s.lines;
    out[1] = s.kept;
    out[2] = s.removed_words;
  };
}

Preset repetition_preset() {
  return {"gopher_repetition",
          {{"dup_para_frac", .3},
           {"dup_para_char_frac", .2},
           {"dup_line_frac", .3},
           {"dup_line_char_frac", .2},
           {"top_2_gram", .2},
           {"top_3_gram", .18},
           {"top_4_gram", .16},
           {"dup_5_gram", .15},
           {"dup_6_gram", .14},
           {"dup_7_gram", .13},
           {"dup_8_gram", .12},
           {"dup_9_gram", .11},
           {"dup_10_gram", .1},
           {"words", "marks"}},
          {"chars", "dup_para_frac", "dup_para_char_frac", "dup_line_frac", "dup_line_char_frac",
           "top_2_gram", "top_3_gram", "top_4_gram", "dup_5_gram", "dup_6_gram", "dup_7_gram", "dup_8_gram",
           "dup_9_gram", "dup_10_gram"},
          {{"empty", "chars", Drop::below, nullptr, 1},
           {"dup_para_frac", "dup_para_frac", Drop::above, "dup_para_frac"},
           {"dup_para_char_frac", "dup_para_char_frac", Drop::above, "dup_para_char_frac"},
           {"dup_line_frac", "dup_line_frac", Drop::above, "dup_line_frac"},
           {"dup_line_char_frac", "dup_line_char_frac", Drop::above, "dup_line_char_frac"},
           {"top_2_gram", "top_2_gram", Drop::above, "top_2_gram"},
           {"top_3_gram", "top_3_gram", Drop::above, "top_3_gram"},
           {"top_4_gram", "top_4_gram", Drop::above, "top_4_gram"},
           {"dup_5_gram", "dup_5_gram", Drop::above, "dup_5_gram"},
           {"dup_6_gram", "dup_6_gram", Drop::above, "dup_6_gram"},
           {"dup_7_gram", "dup_7_gram", Drop::above, "dup_7_gram"},
           {"dup_8_gram", "dup_8_gram", Drop::above, "dup_8_gram"},
           {"dup_9_gram", "dup_9_gram", Drop::above, "dup_9_gram"},
           {"dup_10_gram", "dup_10_gram", Drop::above, "dup_10_gram"}},
          repetition};
}

Preset quality_preset() {
  return {"gopher_quality",
          {{"min_words", 50},
           {"max_words", 100000},
           {"min_word_length", 3},
           {"max_word_length", 10},
           {"max_hash_ratio", .1},
           {"max_ellipsis_ratio", .1},
           {"max_bullet_lines", .9},
           {"max_ellipsis_lines", .3},
           {"min_alpha_words", .8},
           {"min_stop_words", 2},
           {"words", "marks"},
           {"stop_words", "unique"},
           {"asterisk_bullets", false}},
          {"words", "mean_word_length", "hash_ratio", "ellipsis_ratio", "bullet_lines", "ellipsis_lines",
           "alpha_words", "stop_words"},
          {{"short_doc", "words", Drop::below, "min_words"},
           {"long_doc", "words", Drop::above, "max_words"},
           {"short_words", "mean_word_length", Drop::below, "min_word_length"},
           {"long_words", "mean_word_length", Drop::above, "max_word_length"},
           {"hashes", "hash_ratio", Drop::above, "max_hash_ratio"},
           {"ellipses", "ellipsis_ratio", Drop::above, "max_ellipsis_ratio"},
           {"bullet_lines", "bullet_lines", Drop::above, "max_bullet_lines"},
           {"ellipsis_lines", "ellipsis_lines", Drop::above, "max_ellipsis_lines"},
           {"alpha_words", "alpha_words", Drop::below, "min_alpha_words"},
           {"stop_words", "stop_words", Drop::below, "min_stop_words"}},
          gopher_quality};
}

Preset c4_preset() {
  return {"c4",
          {{"max_word_length", 1000},
           {"remove_citations", true},
           {"terminal_punctuation", true},
           {"min_words_per_line", 3},
           {"drop_javascript", true},
           {"drop_policy", true},
           {"max_lorem_ipsum", 0},
           {"max_curly_bracket", 0},
           {"min_sentences", 5}},
          {"lines", "kept_lines", "long_word_lines", "no_terminal_lines", "few_word_lines",
           "javascript_lines", "policy_lines", "lorem_ipsum", "curly_bracket", "sentences"},
          {{"lorem_ipsum", "lorem_ipsum", Drop::above, "max_lorem_ipsum"},
           {"curly_bracket", "curly_bracket", Drop::above, "max_curly_bracket"},
           {"few_sentences", "sentences", Drop::below, "min_sentences"}},
          c4};
}

Preset fineweb_preset() {
  return {"fineweb",
          {{"min_line_punct", .12},
           {"line_punct_exclude_zero", false},
           {"max_short_lines", .67},
           {"short_line_length", 30},
           {"dup_line_chars", .01},
           {"max_newline_ratio", .3},
           {"words", "marks"}},
          {"lines", "line_punct", "short_lines", "dup_line_chars", "newline_ratio"},
          {{"empty", "lines", Drop::below, nullptr, 1},
           {"line_punct", "line_punct", Drop::below, "min_line_punct"},
           {"short_lines", "short_lines", Drop::above, "max_short_lines"},
           {"dup_line_chars", "dup_line_chars", Drop::above, "dup_line_chars"},
           {"newline_ratio", "newline_ratio", Drop::above, "max_newline_ratio"}},
          fineweb};
}

Preset lines_preset() {
  return {"lines",
          {{"max_upper", .5},
           {"max_numeric", .999999},
           {"drop_counters", true},
           {"min_words_per_line", 2},
           {"max_edit_words", 10},
           {"max_newlines", 2},
           {"max_removed_words", .05}},
          {"lines", "kept_lines", "removed_words"},
          {{"removed_words", "removed_words", Drop::above, "max_removed_words"}},
          lines};
}

Preset variant(Preset preset, const char* name, const Json& values) {
  preset.name = name;
  for (const auto& [key, value] : values.items()) preset.arguments.at(key) = value;
  return preset;
}

const std::vector<Preset>& all_presets() {
  static const std::vector<Preset> presets = {
      repetition_preset(),
      quality_preset(),
      variant(quality_preset(), "gopher_quality_dclm",
              {{"words", "spaces"}, {"stop_words", "total"}, {"asterisk_bullets", true}}),
      c4_preset(),
      variant(c4_preset(), "c4_fineweb", {{"terminal_punctuation", false}}),
      fineweb_preset(),
      variant(fineweb_preset(), "fineweb_paper", {{"dup_line_chars", .1}}),
      lines_preset()};
  return presets;
}

struct PresetList {
  const char* name;
  std::vector<const char*> presets;
};
const std::vector<PresetList>& preset_lists() {
  static const std::vector<PresetList> lists = {
      {"fineweb_recipe", {"gopher_repetition", "gopher_quality", "c4_fineweb", "fineweb"}},
      {"refinedweb", {"gopher_quality_dclm", "gopher_repetition", "lines"}},
      {"dclm", {"gopher_quality_dclm", "gopher_repetition", "lines"}}};
  return lists;
}

}  // namespace

std::vector<const Preset*> find_presets(const std::string& name) {
  for (const PresetList& list : preset_lists()) {
    if (name != list.name) continue;
    std::vector<const Preset*> found;
    for (const char* member : list.presets) found.push_back(find_presets(member).front());
    return found;
  }
  std::string known;
  for (const Preset& p : all_presets()) {
    if (p.name == name) return {&p};
    known += p.name + ", ";
  }
  for (const PresetList& list : preset_lists()) known += std::string(list.name) + ", ";
  known.resize(known.size() - 2);
  throw Error(Code::input, "[filters] no preset \"" + name + "\": there are " + known);
}

}  // namespace llmctl
