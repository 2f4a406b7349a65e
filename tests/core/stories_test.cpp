// SPDX-License-Identifier: Apache-2.0
// A real trained model against its published greedy story: alone, and among fifteen other requests.
#include <catch2/catch.hpp>
#include <atomic>
#include <future>

#include "core/engine/load.h"
#include "tests/core/tiny_model.h"

namespace llmctl {
namespace {

const char* const kModel = "../shared/models/stories260K";

GenerationRequest greedy(std::vector<int32_t> prompt, int tokens) {
  GenerationRequest r;
  r.prompt = std::move(prompt);
  r.sampling.temperature = 0;
  r.sampling.max_tokens = tokens;
  return r;
}

}  // namespace

TEST_CASE("stories260K tells its published story", "[stories]") {
  if (!fs::exists(kModel)) {
    WARN("skipped 1 test: " << kModel << " is not here");
    return;
  }
  const auto expected = read_json(fs::path(kModel) / "expected_greedy.json")["ids"].get<std::vector<int32_t>>();
  REQUIRE(expected.size() == 200);
  for (kn::Isa isa : kn::supported_isas())
    for (int threads : {1, 2}) {
      INFO(kn::name_of(isa) << ", " << threads << " threads");
      test::Machine machine(threads, isa);
      const auto engine = make_engine(kModel, {.context = 256, .max_batch = 16}, machine.exec);
      CHECK(complete(*engine, greedy({1}, 200)).ids == expected);
      std::atomic<int> ended{0};
      for (int i = 0; i < 15; ++i) {
        GenerationRequest other = greedy(std::vector<int32_t>(static_cast<size_t>(1 + 3 * i), 300 + i), 150);
        other.sink = [&](const TokenOut& t) {
          if (t.finish != Finish::none) ++ended;
          return true;
        };
        engine->submit(other);
      }
      CHECK(complete(*engine, greedy({1}, 200)).ids == expected);
      while (ended < 15) std::this_thread::yield();
    }
}

}  // namespace llmctl
