// SPDX-License-Identifier: Apache-2.0
#include "data/dedup/decontaminate.h"

#include <fstream>
#include <set>

#include "data/dedup/word_hash.h"
#include "data/text/simplify.h"
#include "dedup_samples.h"

using namespace llmctl;

namespace {

std::string jsonl(const std::vector<Json>& records) {
  std::string out;
  for (const Json& r : records) out += r.dump() + "\n";
  return out;
}

std::string words(int first, int n) {
  std::string out;
  for (int i = first; i < first + n; ++i)
    out += std::string(i > first ? " " : "") + "word" + std::string(1, static_cast<char>('a' + i % 26)) +
           std::string(1, static_cast<char>('a' + i / 26));
  return out;
}

Contamination find(const EvaluationIndex& index, const std::string& text) {
  return index.find({7, 0, text});
}

}  // namespace

TEST_CASE("verdicts by hand", "[decontaminate]") {
  ScratchFolder scratch;
  write_file(scratch.path / "a.jsonl",
             jsonl({{{"query", words(0, 20)}, {"gold", 1}},  // 8 grams of 13
                    {{"deep", Json::array({Json{{"x", words(100, 13)}}, words(200, 15)})}}}),  // 1 + 3
             false);
  write_file(scratch.path / "b.jsonl",
             "\n" + jsonl({{{"short", words(300, 9)}}, {{"too short", words(400, 7)}}}), false);
  const EvaluationIndex index({scratch.path / "a.jsonl", scratch.path / "b.jsonl"}, {});
  CHECK(index.records() == 4);
  CHECK(index.grams() == 8 + 4 + 1);
  CHECK(index.unsearchable() == 1);
  CHECK(find(index, "").records == 0);
  CHECK(find(index, words(0, 12)).records == 0);
  CHECK(find(index, "Before. " + words(0, 13) + ", after") == Contamination{7, 0, 0, 1.0 / 8, 1, 1});
  CHECK(find(index, words(0, 20)) == Contamination{7, 0, 0, 1, 8, 1});
  // Case, punctuation, spaces and repetition do not count.
  std::string loud = words(0, 20);
  for (char& c : loud) c = c == ' ' ? '\n' : static_cast<char>(std::toupper(c));
  CHECK(find(index, loud + "! " + loud) == Contamination{7, 0, 0, 1, 8, 1});
  CHECK(find(index, words(200, 14)) == Contamination{7, 0, 1, 2.0 / 4, 2, 1});
  CHECK(find(index, words(300, 9)) == Contamination{7, 1, 1, 1, 1, 1});  // line 0 of b.jsonl is blank
  CHECK(find(index, words(400, 7)).records == 0);
  CHECK(find(index, words(0, 20) + " " + words(300, 9)) == Contamination{7, 0, 0, 1, 8, 2});
  // No gram goes over from one passage to the next.
  CHECK(find(index, words(107, 6) + " " + words(200, 7)).records == 0);
}

TEST_CASE("what stands in many records is a template", "[decontaminate]") {
  ScratchFolder scratch;
  std::vector<Json> records;
  for (int i = 0; i < 20; ++i) records.push_back({{"q", words(0, 13)}, {"a", words(30 + 13 * i, 13)}});
  write_file(scratch.path / "a", jsonl(records), false);
  const EvaluationIndex index({scratch.path / "a"}, {});
  CHECK(index.grams() == 20);
  CHECK(find(index, words(0, 13)).records == 0);
  CHECK(find(index, words(43, 13)) == Contamination{7, 0, 1, 1, 1, 1});
  DecontaminateOptions all;
  all.max_records = 20;
  const EvaluationIndex with({scratch.path / "a"}, all);
  CHECK(find(with, words(0, 13)) == Contamination{7, 0, 0, 0.5, 1, 20});
}

TEST_CASE("against a slow search, on threads", "[decontaminate]") {
  ScratchFolder scratch;
  WordSource source(4);
  std::vector<Json> records;
  std::vector<std::vector<std::string>> passages;
  for (int i = 0; i < 200; ++i) {
    passages.push_back(source.words(5 + source.random().below(40)));
    records.push_back({{"text", join_words(passages.back())}});
  }
  write_file(scratch.path / "a", jsonl(records), false);
  const EvaluationIndex index({scratch.path / "a"}, {});
  std::vector<SampleDocument> documents;
  for (uint64_t i = 0; i < 600; ++i) {
    auto text = source.words(100);
    const auto& from = passages[source.random().below(passages.size())];
    const size_t n = std::min<size_t>(from.size(), 6 + source.random().below(30));
    if (i % 2) text.insert(text.begin() + 30, from.begin(), from.begin() + static_cast<std::ptrdiff_t>(n));
    documents.push_back({i, 0, join_words(text)});
  }
  std::vector<Contamination> want;
  for (const SampleDocument& d : documents) {
    Contamination best{d.id};
    const std::string padded = " " + d.text + " ";
    for (uint32_t r = 0; r < passages.size(); ++r) {
      const auto& p = passages[r];
      const size_t n = std::min<size_t>(p.size(), 13);
      if (n < 8) continue;
      std::set<std::string> grams, found;
      for (size_t i = 0; i + n <= p.size(); ++i)
        grams.insert(join_words(
            {p.begin() + static_cast<std::ptrdiff_t>(i), p.begin() + static_cast<std::ptrdiff_t>(i + n)}));
      for (const std::string& g : grams)
        if (padded.find(" " + g + " ") != std::string::npos) found.insert(g);
      if (found.empty()) continue;
      ++best.records;
      const double overlap = static_cast<double>(found.size()) / static_cast<double>(grams.size());
      if (overlap <= best.overlap) continue;
      best = {d.id, 0, r, overlap, static_cast<uint32_t>(found.size()), best.records};
    }
    if (best.records > 0) want.push_back(best);
  }
  CHECK(want.size() > 150);
  const auto batch = views(documents);
  for (const int threads : {1, 2, 4}) {
    Threads t(threads);
    CHECK(index.find_all(batch, t.exec) == want);
  }
}

TEST_CASE("evaluation files that are none are refused", "[decontaminate]") {
  ScratchFolder scratch;
  for (const char* bad :
       {"[1]\n", "{\"a\":1}\nhello\n", "\"text\"", "{\"a\":", "{}{}", "\xff\n", "{\"a\":\"\xff\"}"}) {
    write_file(scratch.path / "bad", bad, true);
    CHECK(code_of([&] { EvaluationIndex({scratch.path / "bad"}, {}); }) == Code::input);
  }
  CHECK(code_of([&] { EvaluationIndex({scratch.path / "absent"}, {}); }) == Code::input);
  write_file(scratch.path / "empty", "\n\n", true);
  const EvaluationIndex empty({scratch.path / "empty"}, {});
  CHECK(empty.records() == 0);
  CHECK(find(empty, words(0, 30)).records == 0);
}

TEST_CASE("evaluation records are mutated", "[.fuzz]") {
  ScratchFolder scratch;
  CounterRandom random(1, 1);
  const std::string good = jsonl({{{"query", words(0, 20)}, {"choices", {words(50, 14), words(70, 9)}}}});
  for (int i = 0; i < 3000; ++i) {
    std::string bad = good;
    for (uint64_t k = random.below(4); k > 0; --k)
      bad[random.below(bad.size())] = static_cast<char>(random.bits());
    if (random.chance(30)) bad.resize(random.below(bad.size()));
    std::ofstream(scratch.path / "bad", std::ios::binary) << bad;  // no flush to disk, 3,000 times
    const Code code = code_of([&] {
      const EvaluationIndex index({scratch.path / "bad"}, {});
      find(index, bad);
    });
    CHECK((code == Code{0} || code == Code::input));
  }
}

TEST_CASE("the evaluation files of the project index, and find themselves", "[decontaminate]") {
  const fs::path folder = "../shared/data/eval";
  if (!fs::is_directory(folder)) {
    WARN("../shared is absent");
    return;
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".jsonl") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  const EvaluationIndex index(files, {});
  CHECK(index.records() > 5000);
  ByteReader reader(files.front());
  std::string line;
  REQUIRE(reader.line(line));
  const Contamination c = find(index, "He said: " + Json::parse(line)["query"].get<std::string>());
  CHECK(c.file == 0);
  CHECK(c.record == 0);
  CHECK(c.overlap > 0.3);
}
