// SPDX-License-Identifier: Apache-2.0
#include "parallel/plan.h"

#include <catch2/catch.hpp>
#include <chrono>

#include "core/base/memory.h"

using namespace llmctl;

namespace {

ModelSpec llama(int64_t hidden, int64_t layers, int64_t heads, int64_t kv, int64_t inner, int64_t vocab) {
  const Json hf = {{"architectures", {"LlamaForCausalLM"}}, {"hidden_size", hidden}, {"num_hidden_layers", layers},
                   {"num_attention_heads", heads}, {"num_key_value_heads", kv}, {"intermediate_size", inner},
                   {"vocab_size", vocab}, {"max_position_embeddings", 8192}};
  return make_model_spec(hf, DType::bf16, "[test]");
}

struct Machine {
  kn::ThreadPool pool{1};
  kn::Exec exec;
  Machine() { exec.pool = &pool; }
};

TrainConfig config_of(int64_t sequences, int64_t seq, int64_t units) {
  TrainConfig c;
  c.unit = {sequences, seq};
  c.batch.units = units;
  return c;
}

}  // namespace

TEST_CASE("a layout of one device is the trainer's own dry run") {
  const Machine m;
  for (const char* accumulate : {"fixed", "f32"}) {
    TrainConfig config = config_of(2, 128, 4);
    config.numerics.accumulate = accumulate;
    const ModelSpec spec = llama(256, 5, 4, 2, 704, 1000);
    const LayoutPlan plan = plan_layout(config, spec, {1, 1, 1, 0}, m.exec);
    const std::vector<MemoryLine> own = Trainer(config, spec, m.exec).plan();
    const int64_t weights = plan.lines[0].bytes + plan.lines[1].bytes + plan.lines[2].bytes;
    // Rounding to 64 bytes and the rotary tables are all that the table does not say.
    CHECK(weights <= own[0].bytes);
    CHECK(static_cast<double>(weights) > 0.97 * static_cast<double>(own[0].bytes));
    CHECK(plan.lines[3].bytes == own[1].bytes);
  }
}

TEST_CASE("Muon's one moment and its scratch for whole matrices are planned") {
  const Machine m;
  TrainConfig config = config_of(2, 128, 4);
  const ModelSpec spec = llama(1024, 3, 16, 8, 4096, 1000);
  const LayoutPlan adamw = plan_layout(config, spec, {1, 1, 1, 0}, m.exec);
  config.optimizer.name = "muon";
  const LayoutPlan plan = plan_layout(config, spec, {1, 1, 1, 0}, m.exec);
  const std::vector<MemoryLine> own = Trainer(config, spec, m.exec).plan();
  int64_t hidden = 0;
  for (const Weight& w : spec.table())
    if (w.hidden()) hidden += w.rows() * w.cols();
  CHECK(hidden == 3 * (1024 * (1024 + 2 * 512 + 1024) + 3 * 1024 * 4096));
  CHECK(adamw.lines[0].bytes - plan.lines[0].bytes == 4 * hidden);
  const int64_t weights = plan.lines[0].bytes + plan.lines[1].bytes + plan.lines[2].bytes;
  CHECK(weights <= own[0].bytes);
  CHECK(static_cast<double>(weights) > 0.97 * static_cast<double>(own[0].bytes));
  CHECK(plan.lines[4].bytes == own[2].bytes + own[3].bytes);
  CHECK(own[3].bytes > 2 * 4 * 1024 * 4096);  // the update and its panels
  // The matrices' scratch is the same on two tensor-parallel ranks, the sums by tile are fewer.
  const double sharded = static_cast<double>(plan_layout(config, spec, {2, 1, 1, 0}, m.exec).lines[4].bytes);
  CHECK(sharded == Approx(static_cast<double>(plan.lines[4].bytes)).epsilon(1e-3));
}

TEST_CASE("ZeRO, tensor and pipeline ranks divide what they say they divide") {
  const Machine m;
  const TrainConfig config = config_of(1, 256, 8);
  const ModelSpec spec = llama(2048, 8, 16, 8, 4096, 32000);
  const LayoutPlan one = plan_layout(config, spec, {1, 1, 1, 0}, m.exec);
  const LayoutPlan shared = plan_layout(config, spec, {1, 1, 8, 3}, m.exec);
  for (size_t line : {0, 1, 2}) CHECK(shared.lines[line].bytes == (one.lines[line].bytes + 7) / 8);
  const LayoutPlan masters = plan_layout(config, spec, {1, 1, 8, 1}, m.exec);
  CHECK(masters.lines[0].bytes == (one.lines[0].bytes + 7) / 8);
  CHECK(masters.lines[1].bytes == one.lines[1].bytes);
  // Norms are whole on every tensor-parallel rank, all else is cut.
  const LayoutPlan cut = plan_layout(config, spec, {4, 1, 1, 0}, m.exec);
  CHECK(cut.lines[1].bytes > one.lines[1].bytes / 4);
  CHECK(static_cast<double>(cut.lines[1].bytes) < 0.2505 * static_cast<double>(one.lines[1].bytes));
  const LayoutPlan staged = plan_layout(config, spec, {1, 4, 1, 0}, m.exec);
  CHECK(staged.lines[1].bytes < one.lines[1].bytes / 2);
  CHECK(staged.lines[1].bytes > one.lines[1].bytes / 4);
}

TEST_CASE("layouts that cannot run are refused with the reason") {
  const Machine m;
  const ModelSpec spec = llama(256, 4, 4, 2, 704, 1000);
  CHECK_THROWS_WITH(plan_layout(config_of(1, 64, 8), spec, {2, 1, 1, 0}, m.exec), Catch::Contains("leaves"));
  CHECK_THROWS_WITH(plan_layout(config_of(1, 64, 8), spec, {1, 5, 1, 0}, m.exec), Catch::Contains("5 stages"));
  CHECK_THROWS_WITH(plan_layout(config_of(1, 64, 8), spec, {1, 1, 9, 0}, m.exec), Catch::Contains("raise batch.units"));
  CHECK_THROWS_WITH(plan_layout(config_of(1, 64, 8), spec, {3, 1, 1, 0}, m.exec), Catch::Contains("power of two"));
}

TEST_CASE("70 billion parameters on 64 devices are planned within a second and without memory") {
  const Machine m;
  TrainConfig config = config_of(1, 4096, 64);
  config.parallel.recompute = "block";
  const ModelSpec spec = llama(8192, 80, 64, 8, 28672, 32000);
  const int64_t before = peak_resident_bytes();
  const auto start = std::chrono::steady_clock::now();
  const std::vector<LayoutPlan> plans = plan_layouts(config, spec, 64, {0, 0, 0, -1}, m.exec);
  CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 1.0);
  CHECK(peak_resident_bytes() - before < (int64_t{64} << 20));
  REQUIRE(plans.size() > 10);
  for (size_t i = 1; i < plans.size(); ++i) CHECK(plans[i - 1].bytes <= plans[i].bytes);
  for (const LayoutPlan& p : plans) {
    CHECK(p.layout.devices() == 64);
    CHECK(p.bytes > int64_t{69} * 1000 * 1000 * 1000 * 24 / 64);  // 12 + 8 + 4 bytes a parameter, shared by all
  }
}
