// SPDX-License-Identifier: Apache-2.0
// What data/quality says of texts, one JSON line in, one out, for the scripts beside it.
//   quality_dump words          "text" -> {"words": [...], "sentences": n}
//   quality_dump filters JSON   "text" -> {"rule": name or null, "signals": {...}, "text": edited}
//   quality_dump time JSON      reads all lines first, annotates them; -> {"documents", "bytes", "seconds"}
//   quality_dump scrub          "text" -> {"text", "counts"}
//   quality_dump ngram ORDER FOLDER MEMORY   trains on stdin; FOLDER/model, FOLDER/arpa; -> {"seconds",
//   "ngrams"} quality_dump score MODEL    "text" -> {"log10", "tokens", "unknown"} quality_dump classify
//   TRAIN.jsonl TEST.jsonl OPTIONS   -> {"auroc", "seconds", "digest"}
#include <chrono>
#include <iostream>

#include "data/quality/classifier.h"
#include "data/quality/ngram.h"
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

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Json train_ngram(int order, const fs::path& folder, uint64_t memory) {
  const auto start = std::chrono::steady_clock::now();
  NgramOptions options{.order = order, .memory_bytes = memory, .scratch = folder / "runs"};
  NgramTrainer trainer(options);
  for (std::string line; std::getline(std::cin, line);) trainer.add(line);
  trainer.finish(folder / "model", true);
  const double seconds = seconds_since(start);
  const NgramModel model(folder / "model");
  model.write_arpa(folder / "arpa", true);
  Json counts = Json::array();
  for (int n = 1; n <= order; ++n) counts.push_back(model.ngrams(n));
  return {{"seconds", seconds}, {"ngrams", counts}};
}

Json classify(const fs::path& train, const fs::path& test) {
  kn::ThreadPool pool(2);
  const std::vector<LabelledText> seen = read_labelled(train, "good"), other = read_labelled(test, "good");
  auto start = std::chrono::steady_clock::now();
  const Classifier c = Classifier::train(seen, {}, kn::Exec{.pool = &pool});
  const double training = seconds_since(start);
  std::vector<double> scores;
  std::vector<uint8_t> good;
  start = std::chrono::steady_clock::now();
  for (const LabelledText& d : other) {
    scores.push_back(c.score(d.text));
    good.push_back(d.good);
  }
  return {{"auroc", auroc(scores, good)},
          {"training_seconds", training},
          {"scoring_seconds", seconds_since(start)},
          {"digest", c.digest()}};
}

int other_mode(const std::string& mode, char** argv) {
  Json out;
  if (mode == "ngram") out = train_ngram(std::stoi(argv[2]), argv[3], std::stoull(argv[4]));
  if (mode == "classify") out = classify(argv[2], argv[3]);
  if (mode == "score") {
    const NgramModel model(argv[2]);
    for (std::string line; std::getline(std::cin, line);) {
      const NgramScore s = model.score(next_text(line));
      std::cout << json_text({{"log10", s.log10}, {"tokens", s.tokens}, {"unknown", s.unknown}}) << std::endl;
    }
    return 0;
  }
  std::cout << json_text(out) << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "ngram" || mode == "classify" || mode == "score") return other_mode(mode, argv);
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
