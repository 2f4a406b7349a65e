// SPDX-License-Identifier: Apache-2.0
// test_data "[dedup_bench]": speed and memory of deduplication over LLMCTL_DEDUP_CORPUS (JSON lines), one
// JSON line of figures; tests/bench/rivals/dedup.py calls it beside datatrove. LLMCTL_DEDUP_DOCUMENTS of it
// (default all), LLMCTL_DEDUP_THREADS (1), LLMCTL_DEDUP_MIB of memory_bytes (64), LLMCTL_DEDUP_PRESET
// (verified), LLMCTL_DEDUP_EVAL a folder of evaluation files, LLMCTL_DEDUP_TRUTH=1: recall and precision
// against every pair of the corpus at Jaccard .7 or more, by an exact join (half an hour of nothing above
// 100,000 documents).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <unordered_map>

#include "core/base/memory.h"
#include "data/dedup/decontaminate.h"
#include "data/dedup/exact.h"
#include "data/dedup/lines.h"
#include "data/dedup/minhash.h"
#include "data/dedup/shingles.h"
#include "data/records/documents.h"
#include "data/text/simplify.h"
#include "dedup_samples.h"

using namespace llmctl;

namespace {

std::string setting(const char* name, const char* fallback) {
  const char* value = std::getenv(name);
  return value ? value : fallback;
}

struct Stopwatch {
  double seconds = 0;
  template <class F>
  void time(F&& f) {
    const auto start = std::chrono::steady_clock::now();
    f();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
};

// Every batch of the corpus, at most `limit` documents; ids are their places.
uint64_t each_batch(const fs::path& corpus, uint64_t limit,
                    const std::function<void(std::span<const DedupText>)>& body) {
  std::vector<std::string> texts;
  std::vector<DedupText> batch;
  uint64_t next = 0, bytes = 0;
  const auto flush = [&] {
    batch.clear();
    for (const std::string& t : texts) batch.push_back({next++, 0, t});
    body(batch);
    texts.clear();
  };
  struct Enough {};
  uint64_t seen = 0;
  try {
    read_documents(corpus, {}, [&](Document&& d) {
      if (seen++ >= limit) throw Enough();
      bytes += d.text.size();
      texts.push_back(std::move(d.text));
      if (texts.size() == 512) flush();
    });
  } catch (const Enough&) {
  }
  flush();
  return bytes;
}

// All pairs at Jaccard `least` or more: two sets that alike share one of the rarest (1 - least) |set| + 1
// members of each (prefix filter; Chaudhuri, Ganti and Kaushik 2006).
struct TruePair {
  uint32_t a, b;
  double similarity;
};
std::vector<TruePair> alike(std::vector<std::vector<uint32_t>> sets, double least) {
  std::unordered_map<uint32_t, uint32_t> count;
  for (const auto& s : sets)
    for (const uint32_t x : s) ++count[x];
  std::vector<TruePair> out;
  std::unordered_map<uint32_t, std::vector<uint32_t>> index;
  for (uint32_t d = 0; d < sets.size(); ++d) {
    std::vector<uint32_t> rare = sets[d];
    std::sort(rare.begin(), rare.end(),
              [&](uint32_t x, uint32_t y) { return std::pair(count[x], x) < std::pair(count[y], y); });
    if (rare.empty()) continue;
    rare.resize(
        std::min(rare.size(), static_cast<size_t>((1 - least) * static_cast<double>(rare.size())) + 1));
    std::set<uint32_t> candidates;
    for (const uint32_t x : rare) {
      if (count[x] < 2) continue;
      auto& list = index[x];
      candidates.insert(list.begin(), list.end());
      list.push_back(d);
    }
    for (const uint32_t c : candidates) {
      const double s = jaccard(sets[c], sets[d]);
      if (s >= least) out.push_back({c, d, s});
    }
  }
  return out;
}

// Shares of pairs whose two ends are in one cluster, by similarity; of clustered documents with a partner.
Json against_truth(const fs::path& corpus, uint64_t limit, const MinhashOptions& options,
                   const std::vector<DedupVerdict>& verdicts) {
  std::vector<std::vector<uint32_t>> sets;
  Shingler shingler(options);
  each_batch(corpus, limit, [&](std::span<const DedupText> batch) {
    for (const DedupText& t : batch) {
      sets.push_back(shingler.shingles(t.text));
      make_set(sets.back());
    }
  });
  std::unordered_map<uint64_t, uint64_t> survivor;
  for (const DedupVerdict& v : verdicts) survivor[v.id] = v.survivor;
  struct Count {
    uint64_t pairs = 0, found = 0;
  };
  std::map<int, Count> bins;
  std::set<uint64_t> partnered, must, got;
  Count high;
  for (const TruePair& p : alike(sets, 0.7)) {
    const bool found = survivor.count(p.a) && survivor.count(p.b) && survivor[p.a] == survivor[p.b];
    Count& bin = bins[static_cast<int>(p.similarity * 20 + 1e-9)];
    ++bin.pairs, bin.found += found;
    if (p.similarity >= options.threshold) partnered.insert(p.a), partnered.insert(p.b);
    if (p.similarity < 0.8) continue;
    ++high.pairs, high.found += found;
    must.insert(p.b);  // the later of the two should go
    if (survivor.count(p.b) && survivor[p.b] != p.b) got.insert(p.b);
  }
  uint64_t right = 0;
  for (const DedupVerdict& v : verdicts) right += partnered.count(v.id);
  Json out;
  for (const auto& [bin, c] : bins)
    out["by_jaccard"].push_back({{"from", bin / 20.0}, {"pairs", c.pairs}, {"found", c.found}});
  out["pairs_at_.8"] = high.pairs, out["found_at_.8"] = high.found;
  out["copies_at_.8"] = must.size(), out["removed_of_them"] = got.size();
  out["clustered"] = verdicts.size(), out["clustered_rightly"] = right;
  return out;
}

}  // namespace

TEST_CASE("deduplication of a corpus", "[.dedup_bench]") {
  const fs::path corpus = setting("LLMCTL_DEDUP_CORPUS", "");
  REQUIRE_FALSE(corpus.empty());
  const uint64_t limit = std::stoull(setting("LLMCTL_DEDUP_DOCUMENTS", "1000000000000"));
  const uint64_t memory = std::stoull(setting("LLMCTL_DEDUP_MIB", "64")) << 20;
  Threads t(std::stoi(setting("LLMCTL_DEDUP_THREADS", "1")));
  const MinhashOptions options = minhash_preset(setting("LLMCTL_DEDUP_PRESET", "verified"));
  ScratchFolder scratch;
  Json out;
  Stopwatch simplify, shingle, signatures, clusters, exact, lines, search;
  const auto rate = [&](const Stopwatch& w) { return out["bytes"].get<double>() * 1e-6 / w.seconds; };

  // Memory first, while nothing else was done: reading, signatures, clusters.
  const int64_t before = resident_bytes();
  MinhashWriter writer(scratch.path / "signatures", options, t.exec, false);
  out["bytes"] = each_batch(corpus, limit,
                            [&](std::span<const DedupText> b) { signatures.time([&] { writer.add(b); }); });
  out["documents"] = writer.documents();
  writer.commit();
  std::vector<DedupVerdict> verdicts;
  MinhashStats stats;
  clusters.time([&] {
    stats = minhash_clusters({scratch.path / "signatures"}, options, {scratch.path, memory}, t.exec,
                             [&](const DedupVerdict& v) { verdicts.push_back(v); });
  });
  out["start_mib"] = before >> 20, out["peak_mib"] = peak_resident_bytes() >> 20;
  out["signature_seconds"] = signatures.seconds, out["cluster_seconds"] = clusters.seconds;
  out["signatures_mb_s"] = rate(signatures);
  out["signature_file_bytes"] = fs::file_size(scratch.path / "signatures"),
  out["spilled_bytes"] = stats.spilled_bytes;
  out["candidates"] = stats.candidates, out["edges"] = stats.edges, out["clusters"] = stats.clusters;
  out["removed"] = stats.removed, out["largest_cluster"] = stats.largest_cluster;

  if (setting("LLMCTL_DEDUP_TRUTH", "0") == "1") {
    out["truth"] = against_truth(corpus, limit, options, verdicts);
  } else if (setting("LLMCTL_DEDUP_STAGES", "0") == "1") {
    Shingler shingler(options);
    std::string simple;
    ExactDedup copies({scratch.path, memory, false}, t.exec);
    LineDedupOptions part;
    part.folder = scratch.path, part.memory_bytes = memory;
    LineDedup repeated(part, t.exec);
    std::vector<fs::path> files;
    if (const std::string eval = setting("LLMCTL_DEDUP_EVAL", ""); !eval.empty())
      for (const auto& entry : fs::directory_iterator(eval))
        if (entry.path().extension() == ".jsonl") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    const EvaluationIndex index(files, {});
    uint64_t contaminated = 0;
    each_batch(corpus, limit, [&](std::span<const DedupText> b) {
      simplify.time([&] {
        for (const DedupText& d : b) simplify_text(d.text, {}, simple);
      });
      shingle.time([&] {
        for (const DedupText& d : b) shingler.shingles(d.text);
      });
      exact.time([&] { copies.add(b); });
      lines.time([&] { repeated.add(b); });
      search.time([&] { contaminated += index.find_all(b, t.exec).size(); });
    });
    exact.time([&] { copies.finish([](const DedupVerdict&) {}); });
    lines.time([&] { repeated.finish([](const RepeatedParts&) {}); });
    out["simplify_mb_s"] = rate(simplify), out["shingles_mb_s"] = rate(shingle);
    out["exact_mb_s"] = rate(exact), out["lines_mb_s"] = rate(lines),
    out["decontaminate_mb_s"] = rate(search);
    out["contaminated"] = contaminated, out["evaluation_grams"] = index.grams();
  }
  std::printf("%s\n", out.dump().c_str());
}
