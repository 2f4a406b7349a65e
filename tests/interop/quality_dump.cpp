// SPDX-License-Identifier: Apache-2.0
// What data/quality says of texts, one JSON line in, one out, for the scripts beside it.
//   quality_dump words          "text" -> {"words": [...], "sentences": n}
//   quality_dump filters JSON   "text" -> {"rule": name or null, "signals": {...}, "text": edited}
//   quality_dump time JSON      reads all lines first, annotates them; -> {"documents", "bytes", "seconds"}
//   quality_dump scrub          "text" -> {"text", "counts"}
#include <chrono>
#include <iostream>

#include "data/quality/recipe.h"
#include "data/quality/scrub.h"
#include "data/quality/words.h"

using namespace llmctl;

namespace {

std::string next_text(const std::string& line) {
  return parse_json(line, "stdin").get<std::string>();
}

Json words_of(const std::string& text) {
  std::vector<Word> words;
  split_words(text, WordRule::marks, words);
  Json list = Json::array();
  for (const Word& w : words) list.push_back(text.substr(w.begin, w.end - w.begin));
  return {{"words", list}, {"sentences", count_sentences(words.data(), words.data() + words.size())}};
}

Json filtered(const Recipe& recipe, const std::string& text) {
  const Annotated a = recipe.annotate(text);
  const Rule* rule = recipe.first_failing(a.signals);
  Json signals = Json::object();
  for (size_t i = 0; i < a.signals.size(); ++i) append(signals, recipe.columns()[i], a.signals[i]);
  return {{"rule", rule == nullptr ? Json() : Json(rule->name)}, {"signals", signals}, {"text", a.text}};
}

Json timed(const Recipe& recipe) {
  std::vector<std::string> texts;
  uint64_t bytes = 0, dropped = 0;
  for (std::string line; std::getline(std::cin, line);) {
    texts.push_back(next_text(line));
    bytes += texts.back().size();
  }
  const auto start = std::chrono::steady_clock::now();
  for (const std::string& text : texts)
    dropped += recipe.first_failing(recipe.annotate(text).signals) != nullptr;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return {{"documents", texts.size()}, {"bytes", bytes}, {"dropped", dropped}, {"seconds", seconds.count()}};
}

Json scrubbed(const std::string& text) {
  const Scrubbed s = scrub(text);
  Json counts = Json::object();
  for (int k = 0; k < kPersonalDataKinds; ++k)
    append(counts, name_of(static_cast<PersonalData>(k)), s.counts[k]);
  return {{"text", s.text}, {"counts", counts}};
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string mode = argc > 1 ? argv[1] : "";
  const Recipe recipe(argc > 2 ? parse_json(argv[2], "filters") : Json());
  if (mode == "time") {
    std::cout << json_text(timed(recipe)) << std::endl;
    return 0;
  }
  for (std::string line; std::getline(std::cin, line);) {
    const std::string text = next_text(line);
    const Json out = mode == "words"   ? words_of(text)
                     : mode == "scrub" ? scrubbed(text)
                                       : filtered(recipe, text);
    std::cout << json_text(out) << std::endl;
  }
} catch (const std::exception& e) {
  std::cerr << e.what() << "\n";
  return 1;
}
