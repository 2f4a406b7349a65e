// SPDX-License-Identifier: Apache-2.0
// Exact copies.
#include "data/dedup/exact.h"
#include "dedup_samples.h"

using namespace llmctl;

namespace {

std::vector<DedupVerdict> exact(const std::vector<SampleDocument>& documents, bool simplified,
                                int threads = 2, uint64_t memory = uint64_t{1} << 30) {
  ScratchFolder scratch;
  Threads t(threads);
  ExactDedup dedup({scratch.path, memory, simplified}, t.exec);
  const auto all = views(documents);
  for (size_t at = 0; at < all.size(); at += 1000)
    dedup.add(std::span(all).subspan(at, std::min<size_t>(1000, all.size() - at)));
  CHECK(dedup.documents() == documents.size());
  std::vector<DedupVerdict> out;
  dedup.finish([&](const DedupVerdict& v) { out.push_back(v); });
  CHECK(fs::is_empty(scratch.path));
  return out;
}

}  // namespace

TEST_CASE("exact copies: min (priority, id) survives", "[exact]") {
  const std::vector<SampleDocument> documents = {{9, 0, "a"},  {3, 1, "b"}, {5, 0, "b"}, {4, 0, "b"},
                                                 {1, 1, "A."}, {2, 0, ""},  {8, 0, ""},  {7, 0, "c"}};
  CHECK(exact(documents, false) ==
        std::vector<DedupVerdict>{{2, 2, 2, 1}, {3, 4, 3, 1}, {4, 4, 3, 1}, {5, 4, 3, 1}, {8, 2, 2, 1}});
  CHECK(
      exact(documents, true) ==
      std::vector<DedupVerdict>{
          {1, 9, 2, 1}, {2, 2, 2, 1}, {3, 4, 3, 1}, {4, 4, 3, 1}, {5, 4, 3, 1}, {8, 2, 2, 1}, {9, 9, 2, 1}});
}

TEST_CASE("exact copies: the same for any threads, memory and arrival", "[exact]") {
  std::vector<SampleDocument> documents;
  for (uint64_t i = 0; i < 150'000; ++i)
    documents.push_back(
        {i * 7, static_cast<uint32_t>(keyed_bits(2, i) % 3), std::to_string(keyed_bits(1, i) % 60'000)});
  const auto want = exact(documents, false);
  CHECK(want.size() > 50'000);
  CHECK(exact(documents, false, 1) == want);
  CHECK(exact(documents, false, 4, 0) == want);
  std::reverse(documents.begin(), documents.end());
  CHECK(exact(documents, false, 2, 0) == want);
}

TEST_CASE("exact copies: an id twice and a priority too large are refused", "[exact]") {
  CHECK(code_of([] { exact({{1, 0, "a"}, {1, 0, "a"}}, false); }) == Code::input);
  CHECK(code_of([] { exact({{1, kMaxPriority + 1, "a"}}, false); }) == Code::usage);
}
