// SPDX-License-Identifier: Apache-2.0
#include "data/packed/loader.h"

#include <cmath>
#include <map>
#include <numeric>

#include "samples.h"

using namespace llmctl;
using Ids = std::vector<int32_t>;

namespace {

// Two shards of documents with every token different; the last token of each is its "eos".
PackedCorpus numbered_corpus(const fs::path& folder, const std::vector<int>& lengths) {
  int32_t next = 1;
  size_t at = 0;
  for (const char* name : {"a", "b"}) {
    ShardWriter writer(folder / name, 60000, true);
    for (const size_t end = name[0] == 'a' ? (lengths.size() + 1) / 2 : lengths.size(); at < end; ++at) {
      Ids ids;
      for (int i = 0; i < lengths[at]; ++i) ids.push_back(next++);
      writer.add(ids);
    }
    writer.commit();
  }
  return open_packed(folder);
}

std::vector<int> some_lengths() {
  std::vector<int> lengths;
  for (int i = 0; i < 41; ++i) lengths.push_back(1 + i * 7 % 23);
  return lengths;
}

// Every document border the row claims, and every target, must agree with the numbering.
void check_rows(const Batch& batch, const std::vector<int>& lengths) {
  std::map<int32_t, bool> ends;  // token -> last of its document
  int32_t next = 1;
  for (const int n : lengths)
    for (int i = 0; i < n; ++i) ends[next++] = i + 1 == n;
  REQUIRE(batch.doc_starts.size() == static_cast<size_t>(batch.rows));
  REQUIRE(batch.tokens.size() == static_cast<size_t>(batch.rows * batch.seq));
  for (int64_t r = 0; r < batch.rows; ++r) {
    const std::vector<int32_t>& starts = batch.doc_starts[static_cast<size_t>(r)];
    REQUIRE(starts.front() == 0);
    for (int64_t i = 0; i < batch.seq; ++i) {
      const int32_t token = batch.tokens[static_cast<size_t>(r * batch.seq + i)];
      const int32_t target = batch.targets[static_cast<size_t>(r * batch.seq + i)];
      const bool follows_start = std::find(starts.begin(), starts.end(), i + 1) != starts.end();
      if (token == 0 || ends[token]) {
        CHECK(target == -1);
        if (token != 0 && i + 1 < batch.seq) CHECK(follows_start);
      } else {
        CHECK((target == token + 1 || target == -1));
        CHECK_FALSE(
            (follows_start && batch.tokens[static_cast<size_t>(r * batch.seq + i + 1)] != 0 && target != -1));
      }
    }
  }
}

}  // namespace

TEST_CASE("permutations are permutations", "[loader]") {
  for (const uint64_t n : {1, 2, 3, 16, 17, 1000}) {
    const Permutation order(n, n * 77);
    std::vector<bool> seen(n);
    for (uint64_t i = 0; i < n; ++i) {
      REQUIRE(order(i) < n);
      REQUIRE_FALSE(seen[order(i)]);
      seen[order(i)] = true;
    }
  }
}

TEST_CASE("each token is an input once per epoch", "[loader]") {
  ScratchFolder folder;
  const std::vector<int> lengths = some_lengths();
  const PackedCorpus corpus = numbered_corpus(folder.path, lengths);
  for (const int64_t seq : {1, 8, 64, 1000}) {
    const PackedSource source(corpus, {.seq = seq, .seed = 5});
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      std::map<int32_t, int> seen, asked;
      for (int64_t row = 0; row < source.parts()[0].rows_per_epoch(); ++row) {
        Batch batch;
        source.read(epoch * source.parts()[0].rows_per_epoch() + row, 0, batch);
        check_rows(batch, lengths);
        for (const int32_t t : batch.tokens) ++seen[t];
        for (const int32_t t : batch.targets) ++asked[t];
      }
      seen.erase(0);  // padding
      asked.erase(-1);
      CHECK(static_cast<int64_t>(seen.size()) == corpus.tokens);
      for (const auto& [token, times] : seen) CHECK(times == 1);
      CHECK(static_cast<int64_t>(asked.size()) ==
            corpus.tokens - corpus.documents);  // all but the first of each
      for (const auto& [token, times] : asked) CHECK(times == 1);
    }
  }
}

TEST_CASE("a batch is a function of step and unit", "[loader]") {
  ScratchFolder folder;
  const PackedCorpus corpus = numbered_corpus(folder.path, some_lengths());
  const PackedSource one(corpus, {.seq = 16, .rows_per_unit = 2, .units_per_step = 4, .seed = 9});
  const PackedSource two(corpus, {.seq = 16, .rows_per_unit = 2, .units_per_step = 4, .seed = 9});
  const PackedSource flat(corpus, {.seq = 16, .rows_per_unit = 8, .units_per_step = 1, .seed = 9});
  const PackedSource other(corpus, {.seq = 16, .rows_per_unit = 2, .units_per_step = 4, .seed = 10});
  std::vector<Batch> forward(24);
  for (int64_t i = 0; i < 24; ++i) one.read(i / 4, i % 4, forward[static_cast<size_t>(i)]);
  bool seed_matters = false;
  for (int64_t i = 23; i >= 0; --i) {
    Batch again, changed;
    two.read(i / 4, i % 4, again);
    other.read(i / 4, i % 4, changed);
    CHECK(again.tokens == forward[static_cast<size_t>(i)].tokens);
    CHECK(again.targets == forward[static_cast<size_t>(i)].targets);
    CHECK(again.doc_starts == forward[static_cast<size_t>(i)].doc_starts);
    seed_matters = seed_matters || changed.tokens != again.tokens;
  }
  CHECK(seed_matters);
  Batch step;  // other unit sizes, the same rows of a step
  flat.read(2, 0, step);
  Ids joined;
  for (int u = 0; u < 4; ++u)
    joined.insert(joined.end(), forward[8 + u].tokens.begin(), forward[8 + u].tokens.end());
  CHECK(step.tokens == joined);
  CHECK(code_of([&] { PackedSource(corpus, {.seq = 0}); }) == Code::usage);
}

TEST_CASE("sequential reading predicts each token once, overlapping or not", "[loader]") {
  ScratchFolder folder;
  const std::vector<int> lengths = some_lengths();
  const PackedCorpus corpus = numbered_corpus(folder.path, lengths);
  for (const auto& [seq, stride] :
       {std::pair<int64_t, int64_t>{16, 16}, {16, 4}, {16, 1}, {5000, 16}, {7, 3}}) {
    const SequentialSource source(corpus, seq, stride, 4);
    std::map<int32_t, int> asked;
    for (int64_t u = 0; u < source.units(); ++u) {
      Batch batch;
      source.read(0, u, batch);
      check_rows(batch, lengths);
      for (const int32_t t : batch.targets) ++asked[t];
    }
    asked.erase(-1);
    INFO("seq " << seq << " stride " << stride);
    CHECK(static_cast<int64_t>(asked.size()) == corpus.tokens - corpus.documents);
    for (const auto& [token, times] : asked) CHECK(times == 1);
  }
}

TEST_CASE("a mixture deals rows by weight, each part in its own order", "[loader]") {
  const std::vector<double> weights = {5, 2, 0.00001, 1};
  const Mixture mixture(weights, 3);
  const std::vector<int64_t> counts = mixture.rows_of_block();
  CHECK(std::accumulate(counts.begin(), counts.end(), int64_t{0}) == Mixture::kBlock);
  CHECK(counts[2] == 1);
  CHECK(std::abs(counts[0] - Mixture::kBlock * 5 / 8) <= 1);
  CHECK(std::abs(counts[1] - Mixture::kBlock * 2 / 8) <= 1);
  std::vector<std::vector<bool>> seen(4);
  for (size_t k = 0; k < 4; ++k) seen[k].resize(static_cast<size_t>(3 * counts[k]));
  std::vector<int64_t> met(4);
  double worst = 0;  // how far the mixture of any beginning is from the weights, in rows
  for (int64_t g = 0; g < 3 * Mixture::kBlock; ++g) {
    const Mixture::Place place = mixture.at(g);
    REQUIRE(static_cast<size_t>(place.row) < seen[place.part].size());
    REQUIRE_FALSE(seen[place.part][static_cast<size_t>(place.row)]);  // so every row of every part once
    seen[place.part][static_cast<size_t>(place.row)] = true;
    ++met[place.part];
    worst = std::max(worst, std::abs(static_cast<double>(met[0]) - 5.0 / 8 * static_cast<double>(g + 1)));
  }
  CHECK(worst < 120);  // a keyed order of 4096: some 31 rows are one deviation
  CHECK(Mixture(weights, 3).at(777).row == mixture.at(777).row);
  CHECK(Mixture({3}, 3).at(777).part == 0);
  for (const std::vector<double>& bad : {std::vector<double>{}, {1, 0}, {1, -1}, {1, NAN}, {INFINITY}})
    CHECK(code_of([&] { Mixture(bad, 1); }) == Code::usage);
}

TEST_CASE("a mixed source reads the rows its parts have alone", "[loader]") {
  ScratchFolder a, b;
  const PackedCorpus first = numbered_corpus(a.path, some_lengths());
  const PackedCorpus second = numbered_corpus(b.path, {7, 100, 3, 55});
  const LoaderOptions options{.seq = 16, .rows_per_unit = 2, .units_per_step = 2, .seed = 4};
  std::vector<PackedPart> parts;
  parts.push_back({first, 3});
  parts.push_back({second, 1});
  const PackedSource mixed(parts, options);
  const PackedRows alone[] = {{first, 16, 4}, {second, 16, 4}};
  const Mixture mixture({3, 1}, 4);
  for (int64_t g = 0; g < 200; ++g) {
    Batch got, want;
    mixed.read(g / 4, g / 2 % 2, got);
    for (const int64_t row : {g / 2 * 2, g / 2 * 2 + 1}) {
      const Mixture::Place place = mixture.at(row);
      alone[place.part].append(place.row, want);
    }
    REQUIRE(got.tokens == want.tokens);
    REQUIRE(got.targets == want.targets);
    REQUIRE(got.doc_starts == want.doc_starts);
  }
  CHECK(mixed.tokens() == first.tokens + second.tokens);
  CHECK(mixed.digest() != first.digest);
  parts[1].weight = 2;
  CHECK(PackedSource(parts, options).digest() != mixed.digest());
  parts[1].corpus.tokenizer_digest = "another";
  CHECK(code_of([&] { PackedSource(parts, options); }) == Code::input);
}
