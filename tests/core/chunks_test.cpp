// SPDX-License-Identifier: Apache-2.0
// Sequences in chunks: who has which, and that a run in chunks is the same run but for the order of its sums.
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/core/tiny_model.h"

namespace llmctl {
namespace {

// Documents of one to five tokens and a long one: more pages than one attention call has.
struct ManyDocuments final : BatchSource {
  const test::CountedTokens tokens_of;
  explicit ManyDocuments(const UnitConfig& unit) : tokens_of(unit.sequences, unit.seq_len, 131) {}
  void read(int64_t step, int64_t unit, Batch& out) const override {
    tokens_of.read(step, unit, out);
    for (size_t r = 0; r < out.doc_starts.size(); ++r) {
      std::vector<int32_t>& starts = out.doc_starts[r];
      starts.clear();
      int32_t at = 0;
      for (int32_t i = 0; at < out.seq / 2; at += 1 + (i++ * 7 + static_cast<int32_t>(r)) % 5) starts.push_back(at);
    }
  }
  std::string digest() const override { return "many"; }
  int64_t tokens() const override { return 1 << 20; }
};

struct Gradient {
  StepResult step;
  double loss;
  std::vector<std::vector<double>> tensors;
};

Gradient gradient(const Json& hf, const TrainConfig& config) {
  test::Machine machine;
  const ManyDocuments source(config.unit);
  Trainer trainer(config, test::tiny_spec(hf, config), machine.exec);
  trainer.allocate();
  trainer.model().initialise(7);
  trainer.model().parameters().refresh(machine.exec);
  Gradient g;
  const double scale = trainer.accumulate(source, 0, g.step);
  g.loss = g.step.loss;
  for (const WeightState& w : trainer.model().parameters().all()) {
    g.tensors.emplace_back();
    for (int64_t i = 0; i < w.grad.size(); ++i)
      g.tensors.back().push_back(scale * 0x1p-40 * static_cast<double>(w.grad.as<int64_t>()[i]));
  }
  return g;
}

}  // namespace

TEST_CASE("chunks are dealt in zigzag order", "[chunks]") {
  const ChunkLayout eight{8, 1, 8, 0, 2};
  CHECK(eight.chunks_of(0) == std::vector<int64_t>{0, 1, 6, 7});
  CHECK(eight.chunks_of(1) == std::vector<int64_t>{2, 3, 4, 5});
  CHECK(ChunkLayout{4, 1, 8, 0, 2}.chunks_of(0) == std::vector<int64_t>{0, 3});
  CHECK(ChunkLayout{2, 1, 8, 0, 2}.chunks_of(1) == std::vector<int64_t>{1});
  CHECK(ChunkLayout{1, 1, 8, 0, 1}.chunks_of(0) == std::vector<int64_t>{0});
}

TEST_CASE("a step in chunks is that of whole sequences but for the order of its sums", "[chunks]") {
  if (test::on_device()) return;
  for (const char* compute : {"f32", "bf16"})
    for (const Json& hf : {test::tiny_llama(1), test::tiny_gpt2(1), test::tiny_qwen3(1)}) {
      INFO(compute << " " << hf["architectures"].dump());
      TrainConfig config = test::tiny_config(compute);
      config.unit = {3, 160};
      config.batch.units = 2;
      const Gradient whole = gradient(hf, config);
      for (const int64_t chunks : {2, 4, 32}) {
        INFO(chunks << " chunks");
        config.unit.chunks = chunks;
        const Gradient g = gradient(hf, config);
        CHECK(g.step.batch == whole.step.batch);
        CHECK(g.loss == Approx(whole.loss).epsilon(1e-13));  // the forward has the same bits
        for (size_t t = 0; t < g.tensors.size(); ++t) {
          double apart = 0, norm = 0;
          for (size_t i = 0; i < g.tensors[t].size(); ++i) {
            apart += std::pow(g.tensors[t][i] - whole.tensors[t][i], 2);
            norm += std::pow(whole.tensors[t][i], 2);
          }
          INFO("tensor " << t << ": " << std::sqrt(apart) << " of " << std::sqrt(norm));
          CHECK(std::sqrt(apart) <= (compute == std::string("f32") ? 2e-6 : 2e-2) * std::sqrt(norm) + 1e-9);
        }
      }
    }
}

TEST_CASE("chunks that a run cannot have are refused", "[chunks]") {
  test::Machine machine;
  TrainConfig config = test::tiny_config();
  const auto make = [&](const Json& hf) { Trainer(config, test::tiny_spec(hf, config), machine.exec); };
  config.unit = {2, 36, 3};
  CHECK_THROWS_WITH(make(test::tiny_gpt2()), Catch::Contains("power of two"));
  config.unit = {2, 36, 8};
  CHECK_THROWS_WITH(make(test::tiny_gpt2()), Catch::Contains("divides unit.seq_len 36"));
  config.unit = {2, 36, 4};
  config.moe.units_per_part = config.parallel.units_per_pass = 2;
  CHECK_THROWS_WITH(make(test::tiny_mixtral()), Catch::Contains("unit.chunks 4 with moe.units_per_part 2"));
}

}  // namespace llmctl
