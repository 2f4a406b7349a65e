// SPDX-License-Identifier: Apache-2.0
#include "data/dedup/minhash.h"

#include <fstream>
#include <set>

#include "core/base/minhash.h"
#include "data/dedup/shingles.h"
#include "dedup_samples.h"

using namespace llmctl;

namespace {

struct Answer {
  std::vector<DedupVerdict> verdicts;
  MinhashStats stats;
};

struct How {
  MinhashOptions options = minhash_preset("verified");
  int threads = 2;
  uint64_t memory = uint64_t{1} << 30;
  size_t files = 1;
};

Answer dedup(const std::vector<SampleDocument>& documents, const How& how) {
  ScratchFolder scratch;
  Threads t(how.threads);
  std::vector<fs::path> files;
  const std::vector<DedupText> all = views(documents);
  for (size_t f = 0; f < how.files; ++f) {
    files.push_back(scratch.path / ("part-" + std::to_string(f)));
    MinhashWriter writer(files.back(), how.options, t.exec, false);
    const size_t first = all.size() * f / how.files, last = all.size() * (f + 1) / how.files;
    const std::span<const DedupText> part(all.data() + first, last - first);
    for (size_t at = 0; at < part.size(); at += 100)
      writer.add(part.subspan(at, std::min<size_t>(100, part.size() - at)));
    writer.commit();
  }
  Answer out;
  fs::create_directories(scratch.path / "spill");
  out.stats = minhash_clusters(files, how.options, {scratch.path / "spill", how.memory}, t.exec,
                               [&](const DedupVerdict& v) { out.verdicts.push_back(v); });
  CHECK(fs::is_empty(scratch.path / "spill"));
  return out;
}

using Pairs = std::map<std::pair<size_t, size_t>, double>;

// Every pair of documents at Jaccard `least` or more, by their places.
Pairs alike(const std::vector<SampleDocument>& documents, const MinhashOptions& options, double least) {
  std::vector<std::vector<uint32_t>> sets;
  Shingler shingler(options);
  for (const SampleDocument& d : documents) {
    sets.push_back(shingler.shingles(d.text));
    make_set(sets.back());
  }
  Pairs out;
  for (size_t i = 0; i < sets.size(); ++i)
    for (size_t j = i + 1; j < sets.size(); ++j) {
      const double s = jaccard(sets[i], sets[j]);
      if (s >= least) out[{i, j}] = s;
    }
  return out;
}

}  // namespace

TEST_CASE("signatures have the same bits on every instruction set", "[minhash]") {
  const MinhashFunctions functions(117, 5);
  for (const size_t n : {0, 1, 2, 17, 1000}) {
    std::vector<uint32_t> set(n), first, minima;
    for (size_t i = 0; i < n; ++i) set[i] = static_cast<uint32_t>(keyed_bits(9, i));
    functions.minima(kn::Isa::portable, set, first);
    CHECK(first.size() == 117);
    for (const kn::Isa isa : kn::supported_isas()) {
      functions.minima(isa, set, minima);
      CHECK(minima == first);
    }
    if (n == 0) CHECK(first == std::vector<uint32_t>(117, ~uint32_t{0}));
  }
}

TEST_CASE("equal minima are as frequent as the Jaccard similarity", "[minhash]") {
  const MinhashFunctions functions(1024, 1);
  for (const uint32_t shared : {200u, 500u, 800u}) {
    std::vector<uint32_t> a, b, x, y;  // 1,000 members in either
    for (uint32_t i = 0; i < 1000; ++i) {
      const auto v = static_cast<uint32_t>(keyed_bits(4, i));
      if (i < shared || i % 2) a.push_back(v);
      if (i < shared || i % 2 == 0) b.push_back(v);
    }
    functions.minima(kn::Isa::portable, a, x);
    functions.minima(kn::Isa::portable, b, y);
    int equal = 0;
    for (size_t i = 0; i < x.size(); ++i) equal += x[i] == y[i];
    CHECK(equal / 1024.0 == Approx(shared / 1000.0).margin(0.05));  // three standard deviations
  }
}

TEST_CASE("found pairs against brute force, for every preset of words", "[minhash]") {
  const auto documents = sample_documents(1200, 11);
  for (const char* name : {"verified", "fineweb", "dolma3"}) {
    How how{minhash_preset(name)};
    const Pairs truth = alike(documents, how.options, 0.5);
    const Answer answer = dedup(documents, how);
    std::map<uint64_t, DedupVerdict> of;
    for (const DedupVerdict& v : answer.verdicts) of[v.id] = v;
    int alike_pairs = 0, found = 0;
    std::set<uint64_t> in_true_pair;
    for (const auto& [pair, s] : truth) {
      const uint64_t a = documents[pair.first].id, b = documents[pair.second].id;
      if (s >= how.options.threshold) in_true_pair.insert(a), in_true_pair.insert(b);
      if (s < 0.8) continue;
      ++alike_pairs;
      found += of.count(a) && of.count(b) && of[a].survivor == of[b].survivor;
    }
    INFO(name << ": " << found << " of " << alike_pairs << " pairs at .8 or more");
    CHECK(alike_pairs > 200);
    CHECK(found >= 0.95 * alike_pairs);
    // Verified: whoever is in a cluster has a partner at the threshold. No false one at all.
    for (const auto& [id, v] : of) CHECK(in_true_pair.count(id) == 1);
    CHECK(answer.stats.edges <= answer.stats.candidates);
    CHECK(answer.stats.documents == documents.size());
  }
}

TEST_CASE("verdicts: the survivor is min (priority, id), sizes are counted", "[minhash]") {
  const auto documents = sample_documents(300, 5);
  const Answer answer = dedup(documents, {});
  std::map<uint64_t, uint32_t> priority;
  for (const SampleDocument& d : documents) priority[d.id] = d.priority;
  std::map<uint64_t, std::vector<uint64_t>> clusters;
  uint64_t last = 0;
  for (const DedupVerdict& v : answer.verdicts) {
    CHECK((clusters.empty() || v.id > last));
    last = v.id;
    clusters[v.survivor].push_back(v.id);
  }
  uint64_t removed = 0;
  for (const auto& [survivor, members] : clusters) {
    removed += members.size() - 1;
    for (const uint64_t id : members)
      CHECK(std::pair(priority[survivor], survivor) <= std::pair(priority[id], id));
  }
  for (const DedupVerdict& v : answer.verdicts) {
    CHECK(v.cluster_size == clusters[v.survivor].size());
    CHECK(v.similarity >= 0.75f);
  }
  CHECK(answer.stats.removed == removed);
  CHECK(answer.stats.clusters == clusters.size());
}

TEST_CASE("the same verdicts for any threads, memory, arrival, files", "[minhash]") {
  auto documents = sample_documents(2500, 21);
  const Answer want = dedup(documents, {});
  CHECK(want.stats.removed > 300);
  for (const int threads : {1, 4})
    CHECK(dedup(documents, {minhash_preset("verified"), threads}).verdicts == want.verdicts);
  const Answer small = dedup(documents, {minhash_preset("verified"), 2, 0});
  CHECK(small.stats.spilled_bytes > 0);
  CHECK(small.verdicts == want.verdicts);
  CHECK(dedup(documents, {minhash_preset("verified"), 2, 1 << 20, 7}).verdicts == want.verdicts);
  std::reverse(documents.begin(), documents.end());
  const Answer turned = dedup(documents, {minhash_preset("verified"), 2, 1 << 30, 3});
  CHECK(turned.verdicts == want.verdicts);
  CHECK(turned.stats.candidates == want.stats.candidates);
}

TEST_CASE("100,000 copies of one text cost one comparison each", "[minhash]") {
  std::vector<SampleDocument> documents;
  const std::string text = join_words(WordSource(1).words(12));
  for (uint64_t i = 0; i < 100'000; ++i) documents.push_back({i + 3, 0, text});
  const Answer answer = dedup(documents, {minhash_preset("fineweb"), 2, 6 << 20});
  CHECK(answer.stats.candidates == 99'999);
  REQUIRE(answer.verdicts.size() == 100'000);
  CHECK(answer.verdicts.front() == DedupVerdict{3, 3, 100'000, 1});
  CHECK(answer.verdicts.back() == DedupVerdict{100'002, 3, 100'000, 1});
}

TEST_CASE("a bucket of many different texts is led by a few", "[minhash]") {
  // One band of one row: a bucket holds whatever shares one minimum.
  MinhashOptions options{ShingleUnit::words, 1, 1, 1, 0.9};
  options.representatives = 4;
  std::vector<SampleDocument> documents;
  WordSource source(8);
  const auto shared = source.words(400);
  for (uint64_t i = 0; i < 2000; ++i) {
    auto words = shared;
    for (int k = 0; k < 300; ++k)
      words.push_back("w" + std::to_string(i * 1000 + static_cast<uint64_t>(k)) + "x");
    documents.push_back({i, 0, join_words(words)});
  }
  options.digits_to_zero = false;
  const Answer answer = dedup(documents, {options});
  CHECK(answer.stats.candidates > 1000);
  CHECK(answer.stats.candidates <= 4 * 2000);
  CHECK(answer.stats.edges == 0);
}

TEST_CASE("texts without words, and with fewer than a shingle holds", "[minhash]") {
  const std::vector<SampleDocument> documents = {
      {1, 0, ""},          {2, 0, "  ...\n"},     {3, 0, ""},
      {4, 0, "two words"}, {5, 0, "Two  words!"}, {6, 0, "two other words"},
      {7, 0, "two"},       {8, 0, "words two"}};
  for (const char* name : {"fineweb", "curator", "rpv2"}) {
    const Answer answer = dedup(documents, {minhash_preset(name)});
    CHECK(answer.stats.empty == 3);
    CHECK(answer.verdicts == std::vector<DedupVerdict>{{4, 4, 2, 1}, {5, 4, 2, 1}});
  }
  CHECK(dedup({}, {}).verdicts.empty());
}

TEST_CASE("characters: curator's shingles find copies too", "[minhash]") {
  WordSource source(31);
  const auto words = source.words(300);
  const std::vector<SampleDocument> documents = {{1, 0, join_words(words)},
                                                 {2, 0, join_words(source.edited(words, 0.99))},
                                                 {3, 0, join_words(source.words(300))}};
  const Answer answer = dedup(documents, {minhash_preset("curator")});
  REQUIRE(answer.verdicts.size() == 2);
  CHECK(answer.verdicts[1].survivor == 1);
}

TEST_CASE("an id given twice, priorities and options out of range are refused", "[minhash]") {
  CHECK(code_of([] { dedup({{1, 0, "a b c"}, {1, 0, "a b c"}}, {}); }) == Code::input);
  CHECK(code_of([] { dedup({{1, kMaxPriority + 1, "a b c"}}, {}); }) == Code::usage);
  CHECK(code_of([] { minhash_preset("nobody"); }) == Code::usage);
  for (const MinhashOptions& bad :
       {MinhashOptions{ShingleUnit::words, 0}, MinhashOptions{ShingleUnit::words, 5, 0},
        MinhashOptions{ShingleUnit::words, 5, 100, 100}, MinhashOptions{ShingleUnit::words, 5, 14, 8, 1.5}})
    CHECK(code_of([&] { dedup({}, {bad}); }) == Code::usage);
}

TEST_CASE("signature files that are damaged, cut, mixed up or of other options are refused", "[minhash]") {
  ScratchFolder scratch;
  Threads t(1);
  const auto documents = sample_documents(40, 2);
  const MinhashOptions options = minhash_preset("fineweb");
  const fs::path good = scratch.path / "good", bad = scratch.path / "bad";
  MinhashWriter writer(good, options, t.exec, false);
  writer.add(views(documents));
  CHECK_FALSE(fs::exists(good));  // until it is complete
  writer.commit();
  const std::string bytes = read_file(good);
  const auto read = [&](const std::string& content, const MinhashOptions& with) {
    write_file(bad, content, true);
    return code_of([&] {
      minhash_clusters({bad}, with, {scratch.path, 0}, t.exec, [](const DedupVerdict&) {});
    });
  };
  CHECK(read(bytes, options) == Code{0});
  CHECK(read(bytes, minhash_preset("dolma3")) == Code::input);
  for (size_t cut : {size_t{0}, size_t{1}, size_t{47}, size_t{100}, bytes.size() / 2, bytes.size() - 1})
    CHECK(read(bytes.substr(0, cut), options) == Code::input);
  // Any one byte, but for the padding, which means nothing - and is in the checksums all the same.
  for (size_t i = 0; i < bytes.size(); i += 1 + i / 50) {
    std::string changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ 0x10);
    INFO("byte " << i << " of " << bytes.size());
    CHECK(read(changed, options) == Code::input);
  }
  CHECK(read(bytes + bytes, options) == Code::input);
  CHECK(code_of([&] { MinhashWriter(good, options, t.exec, false); }) == Code::usage);
}
