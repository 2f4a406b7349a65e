// SPDX-License-Identifier: Apache-2.0
// Training over ranks: the digests of one rank on any number of them, after any stop and resume.
#include "tests/parallel/trained.h"

namespace llmctl {
namespace {

using test::Trace;

struct Layout {
  int ranks = 1;
  int64_t zero = 0;
  int64_t tp = 1, pp = 1;
  const char* schedule = "1f1b";
  int64_t virtual_stages = 1, cp = 1, ep = 1;
  std::string text() const {
    return std::to_string(ranks) + " ranks, zero " + std::to_string(zero) + ", tp " + std::to_string(tp) + ", pp " +
           std::to_string(pp) + " " + schedule + " " + std::to_string(virtual_stages) + ", cp " + std::to_string(cp) + ", ep " +
           std::to_string(ep);
  }
};

// Steps [from, to) of a run on a layout, see tests/parallel/trained.h. What the steps send in each
// expert-parallel group is counted where `experts` asks.
Trace train(const Json& hf, TrainConfig config, const Layout& layout, int64_t from, int64_t to,
            const fs::path& folder = {}, bool save = false, std::vector<CommCounts>* experts = nullptr) {
  config.parallel.zero = layout.zero;
  config.parallel.tp = layout.tp;
  config.parallel.pp = layout.pp;
  config.parallel.cp = layout.cp;
  config.parallel.ep = layout.ep;
  config.parallel.schedule = layout.schedule;
  config.parallel.virtual_stages = layout.virtual_stages;
  const test::Trained done = test::train_on(layout.ranks, 1, hf, config, {from, to, folder, save});
  if (experts)
    for (const auto& sent : done.sent) experts->push_back(sent[static_cast<size_t>(Axis::ep)]);
  return done.trace;
}

Json wide(Json hf) {  // several tiles of rows, so that owners share tensors
  hf["vocab_size"] = 131;
  if (hf.contains("hidden_size")) hf["hidden_size"] = 128, hf["intermediate_size"] = 416, hf["head_dim"] = 32;
  if (hf.contains("n_embd")) hf["n_embd"] = 96;
  return hf;
}

// The same with heads and widths that divide into four leaves of 32.
Json divisible(Json hf) {
  hf = wide(hf);
  if (hf.contains("hidden_size")) {
    hf["num_attention_heads"] = 8, hf["num_key_value_heads"] = 4;
    hf["intermediate_size"] = 384;
  }
  if (hf.contains("n_embd")) hf["n_embd"] = 128, hf["n_head"] = 4;
  return hf;
}

// With experts: these too, of four leaves of 32.
Json divisible_experts(Json hf) {
  hf = divisible(hf);
  hf["intermediate_size"] = 128;
  if (hf.contains("moe_intermediate_size")) hf["moe_intermediate_size"] = 128;
  if (hf.contains("shared_expert_intermediate_size")) hf["shared_expert_intermediate_size"] = 256;
  return hf;
}

}  // namespace

TEST_CASE("digests are those of one rank on any number of tensor-parallel ranks", "[train][tp]") {
  for (const char* compute : {"bf16", "f32"})
    for (const Json& hf : {divisible(test::tiny_llama(4)), divisible(test::tiny_gpt2(4)), divisible(test::tiny_qwen3(4))})
      for (const char* optimizer : {"adamw", "muon"}) {
        TrainConfig config = test::tiny_config(compute);
        config.optimizer.name = optimizer;
        INFO(compute << " " << hf["architectures"].dump() << " " << optimizer);
        const Trace reference = train(hf, config, {}, 0, 4);
        for (const Layout& layout : {Layout{2, 0, 2}, Layout{4, 0, 4}, Layout{4, 1, 2}, Layout{6, 0, 2}}) {
          INFO(layout.text());
          CHECK(train(hf, config, layout, 0, 4) == reference);
        }
      }
}

TEST_CASE("digests are those of one rank on any pipeline", "[train][pp]") {
  for (const char* compute : {"bf16", "f32"})
    for (Json hf : {divisible(test::tiny_llama(4)), divisible(test::tiny_gpt2(4)), test::tiny_mixtral(1), test::tiny_qwen2_moe(1)}) {
      for (const char* name : {"num_hidden_layers", "n_layer"})
        if (hf.contains(name)) hf[name] = 5;
      TrainConfig config = test::tiny_config(compute);
      INFO(compute << " " << hf["architectures"].dump());
      const Trace reference = train(hf, config, {}, 0, 3);
      for (const Layout& layout : {Layout{2, 0, 1, 2}, Layout{4, 0, 1, 4, "gpipe"}, Layout{4, 0, 1, 2}, Layout{2, 0, 1, 2, "interleaved", 2}, Layout{6, 1, 1, 2},
                                   Layout{3, 0, 1, 3}, Layout{2, 0, 1, 2, "zero_bubble"}, Layout{4, 0, 1, 4, "zero_bubble"}}) {
        INFO(layout.text());
        CHECK(train(hf, config, layout, 0, 3) == reference);
      }
    }
  const Json hf = divisible(test::tiny_llama(4));
  TrainConfig config = test::tiny_config();
  const Trace reference = train(hf, config, {}, 0, 3);
  CHECK(train(hf, config, {8, 0, 2, 2}, 0, 3) == reference);
  for (const char* recompute : {"none", "pointwise", "block"}) {
    INFO(recompute);
    config.parallel.recompute = recompute;
    config.parallel.units_per_pass = 3;
    CHECK(train(hf, config, {2, 0, 1, 2, "zero_bubble"}, 0, 3) == reference);
    CHECK(train(hf, config, {2, 0, 1, 2}, 0, 3) == reference);
  }
}

TEST_CASE("digests are those of one rank on any number of expert-parallel ranks", "[train][ep]") {
  for (const char* compute : {"bf16", "f32"})
    for (const Json& hf : {test::tiny_mixtral(1), test::tiny_qwen2_moe(1), test::tiny_qwen3_moe(1)}) {
      TrainConfig config = test::tiny_config(compute);
      INFO(compute << " " << hf["architectures"].dump());
      const Trace reference = train(hf, config, {}, 0, 4);
      for (const Layout& layout : {Layout{2, 0, 1, 1, "1f1b", 1, 1, 2}, Layout{4, 0, 1, 1, "1f1b", 1, 1, 4}, Layout{4, 1, 1, 1, "1f1b", 1, 1, 2},
                                   Layout{6, 0, 1, 1, "1f1b", 1, 1, 2}, Layout{4, 0, 1, 2, "1f1b", 1, 1, 2}, Layout{4, 0, 1, 2, "zero_bubble", 1, 1, 2}}) {
        INFO(layout.text());
        CHECK(train(hf, config, layout, 0, 4) == reference);
      }
    }
  const Json hf = test::tiny_mixtral(1);
  TrainConfig config = test::tiny_config();
  config.moe.units_per_part = 2;
  config.parallel.units_per_pass = 4;
  const Trace reference = train(hf, config, {}, 0, 3);
  for (const char* recompute : {"none", "pointwise", "block"}) {
    INFO(recompute);
    config.parallel.recompute = recompute;
    for (const int64_t per_pass : {2, 4}) {
      config.parallel.units_per_pass = per_pass;
      CHECK(train(hf, config, {2, 0, 1, 1, "1f1b", 1, 1, 2}, 0, 3) == reference);
    }
  }
}

TEST_CASE("experts' rows that there is no room for stop all ranks together", "[train][ep]") {
  const Json hf = test::tiny_mixtral(1);
  TrainConfig config = test::tiny_config();
  const Trace reference = train(hf, config, {}, 0, 3);
  const Layout layout{4, 0, 1, 1, "1f1b", 1, 1, 2}, deep{4, 0, 1, 2, "1f1b", 1, 1, 2};
  config.parallel.expert_capacity = 1.8;
  CHECK(train(hf, config, layout, 0, 3) == reference);
  config.parallel.expert_capacity = 1.01;
  CHECK_THROWS_WITH(train(hf, config, layout, 0, 3), Catch::Contains("its even share of experts' rows"));
  CHECK_THROWS_WITH(train(hf, config, deep, 0, 3), Catch::Contains("its even share of experts' rows"));
  config.batch.units = 7;
  CHECK_THROWS_WITH(train(hf, config, layout, 0, 3), Catch::Contains("does not divide by 2"));
  config.batch.units = 8;
  CHECK_THROWS_WITH(train(hf, config, {7, 0, 1, 1, "1f1b", 1, 1, 7}, 0, 3), Catch::Contains("has 6 experts"));
}

// The residual stream in shares of rows: by chunks, and by units of a pass; recomputed and put off.
TEST_CASE("sequence parallel has the digests of one rank", "[train][sp]") {
  for (const char* compute : {"bf16", "f32"})
    for (const Json& hf : {divisible(test::tiny_llama(4)), divisible(test::tiny_gpt2(4))}) {
      TrainConfig config = test::tiny_config(compute);
      config.unit.seq_len = 48;
      for (const int64_t chunks : {1, 4}) {
        config.unit.chunks = chunks;
        config.parallel.units_per_pass = chunks == 1 ? 4 : 1;
        config.parallel.recompute = "norms";
        const Trace reference = train(hf, config, {}, 0, 3);
        for (const char* recompute : {"none", "pointwise", "block"}) {
          config.parallel.recompute = recompute;
          for (const Layout& layout : {Layout{4, 0, 4}, Layout{4, 0, 2}, Layout{4, 0, 2, 2, "zero_bubble"}}) {
            INFO(compute << " " << hf["architectures"].dump() << ", chunks " << chunks << ", " << recompute << ", " << layout.text());
            CHECK(train(hf, config, layout, 0, 3) == reference);
          }
        }
      }
    }
}

TEST_CASE("what expert-parallel ranks send one another", "[train][ep]") {
  Json hf = test::tiny_mixtral(1);  // every token goes to every expert
  hf["num_experts_per_tok"] = 6;
  TrainConfig config = test::tiny_config();
  config.parallel.units_per_pass = 2;
  for (const char* recompute : {"norms", "block"})
    for (const int64_t ep : {2, 3}) {
      config.parallel.recompute = recompute;
      config.batch.units = 2 * ep;
      std::vector<CommCounts> counts;
      train(hf, config, {static_cast<int>(ep), 0, 1, 1, "1f1b", 1, 1, ep}, 0, 3, {}, false, &counts);
      const int64_t layers = 2, passes = 3, again = recompute == std::string("block");
      const int64_t tokens = 2 * config.unit.sequences * config.unit.seq_len, rows = tokens * 6, row_bytes = 64 * 2;
      for (const CommCounts& c : counts) {
        CHECK(c[CommKind::all_to_all].calls == passes * layers * (5 + 2 * again));
        CHECK(c[CommKind::all_to_all].bytes == passes * layers * (5 + 2 * again) * rows / ep * (ep - 1) * row_bytes);
        CHECK(c[CommKind::all_gather].bytes == passes * layers * (1 + again) * (2 * 6 * 4) * (ep - 1));
      }
    }
}

TEST_CASE("held-out losses are those of one rank where ranks share out experts", "[train][ep]") {
  TrainConfig config = test::tiny_config();
  std::mutex mutex;
  std::vector<double> losses;
  for (const int ranks : {1, 2, 4})
    run_threads(ranks, 60, [&, ranks](Comm& comm) {
      TrainConfig here = config;
      here.parallel.ep = ranks;
      test::Machine machine(1);
      const test::CountedTokens source(here.unit.sequences, here.unit.seq_len, 131);
      const Mesh mesh(comm, mesh_of(here, ranks));
      Trainer trainer(here, test::tiny_spec(test::tiny_mixtral(1), here), machine.exec, sharding_of(here, mesh));
      trainer.allocate();
      trainer.model().initialise(here.seed);
      const double loss = mean_loss(trainer.model(), source, 5, here.unit.sequences * here.unit.seq_len, machine.exec, &comm);
      const std::lock_guard lock(mutex);
      losses.push_back(loss);
    });
  REQUIRE(losses.size() == 7);
  for (const double loss : losses) CHECK(loss == losses.front());
}

TEST_CASE("digests of experts are those of one rank on tensor-parallel ranks", "[train][ep][tp]") {
  for (const char* compute : {"bf16", "f32"})
    for (const Json& hf : {divisible_experts(test::tiny_mixtral(4)), divisible_experts(test::tiny_qwen2_moe(4)), divisible_experts(test::tiny_qwen3_moe(4))}) {
      TrainConfig config = test::tiny_config(compute);
      INFO(compute << " " << hf["architectures"].dump());
      const Trace reference = train(hf, config, {}, 0, 3);
      for (const Layout& layout : {Layout{2, 0, 2}, Layout{4, 0, 4}, Layout{4, 1, 2}, Layout{4, 0, 2, 1, "1f1b", 1, 1, 2},
                                   Layout{4, 0, 2, 2}, Layout{8, 0, 2, 2, "zero_bubble", 1, 1, 2}}) {
        INFO(layout.text());
        CHECK(train(hf, config, layout, 0, 3) == reference);
      }
    }
  Json narrow = divisible(test::tiny_mixtral(4));
  narrow["intermediate_size"] = 96;
  CHECK_THROWS_WITH(train(narrow, test::tiny_config(), {2, 0, 2}, 0, 1), Catch::Contains("the experts' width 96"));
}

TEST_CASE("digests of experts are those of one rank on context-parallel ranks", "[train][ep][cp]") {
  for (const char* compute : {"bf16", "f32"})
    for (const Json& hf : {test::tiny_mixtral(1), test::tiny_qwen2_moe(1), test::tiny_qwen3_moe(1)}) {
      TrainConfig config = test::tiny_config(compute);
      config.unit.chunks = 4, config.unit.seq_len = 48;
      config.parallel.units_per_pass = 2;
      INFO(compute << " " << hf["architectures"].dump());
      const Trace reference = train(hf, config, {}, 0, 3);
      for (const Layout& layout : {Layout{2, 0, 1, 1, "1f1b", 1, 2}, Layout{4, 0, 1, 1, "1f1b", 1, 4}, Layout{4, 0, 1, 1, "1f1b", 1, 2, 2},
                                   Layout{4, 0, 1, 2, "1f1b", 1, 2}, Layout{2, 0, 1, 1, "1f1b", 1, 1, 2}}) {
        INFO(layout.text());
        CHECK(train(hf, config, layout, 0, 3) == reference);
      }
    }
  const Json hf = divisible_experts(test::tiny_mixtral(4));
  TrainConfig config = test::tiny_config();
  config.unit.chunks = 2, config.unit.seq_len = 48;
  CHECK(train(hf, config, {8, 0, 2, 1, "1f1b", 1, 2, 2}, 0, 3) == train(hf, config, {}, 0, 3));
  config.moe.units_per_part = config.parallel.units_per_pass = 2;
  CHECK_THROWS_WITH(train(hf, config, {}, 0, 1), Catch::Contains("unit.chunks 2 with moe.units_per_part 2"));
}

TEST_CASE("layouts in every combination", "[train][mix]") {
  for (Json hf : {divisible(test::tiny_llama(4)), divisible(test::tiny_gpt2(4))}) {
    TrainConfig config = test::tiny_config();
    config.unit.chunks = 4, config.unit.seq_len = 48;
    INFO(hf["architectures"].dump());
    const Trace reference = train(hf, config, {}, 0, 3);
    for (const Layout& layout : {Layout{8, 1, 2, 2}, Layout{4, 0, 1, 2, "1f1b", 1, 2}, Layout{4, 0, 2, 1, "1f1b", 1, 2},
                                 Layout{8, 0, 2, 2, "zero_bubble", 1, 2}, Layout{8, 0, 1, 2, "gpipe", 1, 4}}) {
      INFO(layout.text());
      CHECK(train(hf, config, layout, 0, 3) == reference);
    }
  }
}

TEST_CASE("digests are those of one rank on any number of data-parallel ranks", "[train]") {
  for (const char* compute : {"bf16", "f32"})
    for (const Json& hf : {wide(test::tiny_llama(4)), wide(test::tiny_gpt2(4))})
      for (const char* optimizer : {"adamw", "muon"}) {
        TrainConfig config = test::tiny_config(compute);
        config.optimizer.name = optimizer;
        config.parallel.units_per_pass = 2;
        INFO(compute << " " << hf["architectures"].dump() << " " << optimizer);
        const Trace reference = train(hf, config, {}, 0, 4);
        for (const Layout& layout : {Layout{2, 0}, Layout{3, 1}, Layout{8, 1}, Layout{2, 1}, Layout{3, 2}, Layout{2, 3}, Layout{5, 3}}) {
          INFO(layout.ranks << " ranks, zero " << layout.zero);
          CHECK(train(hf, config, layout, 0, 4) == reference);
        }
      }
}

// Gradients (2) and weights (3) of slices come and go with each block.
TEST_CASE("digests are those of one rank where slices' gradients and weights are sharded", "[train][zero]") {
  for (const char* compute : {"bf16", "f32"})
    for (const Json& hf : {divisible(test::tiny_llama(4)), divisible(test::tiny_gpt2(4)), divisible(test::tiny_qwen3(4))})
      for (const char* optimizer : {"adamw", "muon"}) {
        if (compute == std::string("f32") && optimizer == std::string("muon")) continue;
        TrainConfig config = test::tiny_config(compute);
        config.optimizer.name = optimizer;
        INFO(compute << " " << hf["architectures"].dump() << " " << optimizer);
        const Trace reference = train(hf, config, {}, 0, 3);
        for (const int64_t zero : {2, 3})
          for (Layout layout : {Layout{2, 0, 2}, Layout{6, 0, 2}, Layout{2, 0, 1, 2}, Layout{6, 0, 1, 2}, Layout{4, 0, 1, 2, "gpipe"},
                                Layout{4, 0, 1, 2, "zero_bubble"}, Layout{8, 0, 2, 2}, Layout{8, 0, 2, 2, "zero_bubble"}}) {
            layout.zero = zero;
            INFO(layout.text());
            CHECK(train(hf, config, layout, 0, 3) == reference);
          }
      }
  Json deep = divisible(test::tiny_llama(4));
  deep["num_hidden_layers"] = 8;
  for (const bool tied : {true, false}) {
    deep["tie_word_embeddings"] = tied;
    TrainConfig config = test::tiny_config();
    config.parallel.units_per_pass = 2;
    for (const char* recompute : {"none", "block"}) {
      config.parallel.recompute = recompute;
      const Trace reference = train(deep, config, {}, 0, 3);
      for (const Layout& layout : {Layout{6, 3, 1, 2, "interleaved", 2}, Layout{3, 3, 1, 3}, Layout{4, 2, 1, 2, "interleaved", 4}, Layout{8, 3, 2, 4}}) {
        INFO(layout.text() << ", tied " << tied << ", recompute " << recompute);
        CHECK(train(deep, config, layout, 0, 3) == reference);
      }
    }
  }
}

TEST_CASE("digests of experts are those of one rank where slices' gradients and weights are sharded", "[train][zero][ep]") {
  for (const char* compute : {"bf16", "f32"})
    for (const Json& hf : {divisible_experts(test::tiny_mixtral(4)), divisible_experts(test::tiny_qwen2_moe(4)), divisible_experts(test::tiny_qwen3_moe(4))}) {
      TrainConfig config = test::tiny_config(compute);
      INFO(compute << " " << hf["architectures"].dump());
      const Trace reference = train(hf, config, {}, 0, 3);
      for (const int64_t zero : {2, 3})
        for (Layout layout : {Layout{2, 0, 1, 1, "1f1b", 1, 1, 2}, Layout{6, 0, 1, 1, "1f1b", 1, 1, 2}, Layout{4, 0, 2, 1, "1f1b", 1, 1, 2},
                              Layout{2, 0, 2}, Layout{6, 0, 1, 2}, Layout{4, 0, 1, 2, "zero_bubble", 1, 1, 2}, Layout{8, 0, 2, 2, "1f1b", 1, 1, 2}}) {
          layout.zero = zero;
          INFO(layout.text());
          CHECK(train(hf, config, layout, 0, 3) == reference);
        }
    }
}

TEST_CASE("a checkpoint of any layout goes on on any other", "[train]") {
  const Json hf = wide(test::tiny_llama(4));
  for (const char* optimizer : {"adamw", "muon"}) {
    TrainConfig config = test::tiny_config();
    config.optimizer.name = optimizer;
    const Trace reference = train(hf, config, {}, 0, 6);
    for (const auto& [before, after] : {std::pair<Layout, Layout>{{1, 0}, {3, 1}}, {{4, 1}, {1, 0}}, {{3, 1}, {8, 1}},
                                        {{2, 0}, {5, 1}}, {{3, 3}, {2, 2}}, {{2, 2}, {3, 3}}, {{4, 3, 1, 2}, {2, 2}}, {{1, 0}, {6, 3, 1, 2}}}) {
      INFO(optimizer << ": " << before.ranks << " ranks, then " << after.ranks);
      const ScratchFolder scratch;
      train(hf, config, before, 0, 3, scratch.path, true);
      const Trace rest = train(hf, config, after, 3, 6, scratch.path);
      CHECK(rest == Trace(reference.begin() + 3, reference.end()));
    }
  }
}

TEST_CASE("the model folder of sharded ranks is that of one", "[train]") {
  const Json hf = wide(test::tiny_gpt2(4));
  const TrainConfig config = test::tiny_config();
  const ScratchFolder one, three;
  train(hf, config, {1, 0}, 0, 2, one.path, true);
  train(hf, config, {3, 1}, 0, 2, three.path, true);
  for (const char* file : {"model.safetensors", "config.json"})
    CHECK(digest_of_file(one.path / "checkpoints/step-2/model" / file) ==
          digest_of_file(three.path / "checkpoints/step-2/model" / file));
  CHECK(fs::exists(three.path / "checkpoints/step-2/state/optimizer-00003-of-00003.safetensors"));
}

TEST_CASE("a missing file of a sharded checkpoint is named, and so is one of another model", "[train]") {
  const Json hf = wide(test::tiny_llama(4));
  const TrainConfig config = test::tiny_config();
  const ScratchFolder scratch;
  train(hf, config, {3, 1}, 0, 1, scratch.path, true);
  Json other = hf;
  other["intermediate_size"] = 448;
  CHECK_THROWS_WITH(train(other, config, {2, 1}, 1, 2, scratch.path), Catch::Contains("another model"));
  fs::remove(scratch.path / "checkpoints/step-1/state/optimizer-00002-of-00003.safetensors");
  CHECK_THROWS_WITH(train(hf, config, {2, 1}, 1, 2, scratch.path), Catch::Contains("a file is missing"));
}

TEST_CASE("what one rank cannot do, all refuse", "[train]") {
  const Json hf = wide(test::tiny_llama(4));
  TrainConfig config = test::tiny_config();
  CHECK_THROWS_WITH(train(hf, config, {9, 1}, 0, 1), Catch::Contains("9 data-parallel ranks for the 8 units"));
  config.optimizer.learning_rate = 1e10;  // diverges
  CHECK_THROWS_WITH(train(hf, config, {3, 1}, 0, 10), Catch::Contains("not finite"));
  config = test::tiny_config("f32");
  config.numerics.accumulate = "f32";
  CHECK_THROWS_WITH(train(hf, config, {2, 0}, 0, 1), Catch::Contains("accumulate"));
}

}  // namespace llmctl
