// SPDX-License-Identifier: Apache-2.0
// Context parallel: sequences shared out over ranks in chunks, with the digests of one rank; alone and beside
// the other axes and ZeRO, over threads.
#include "tests/parallel/trained.h"

namespace llmctl {
namespace {

using test::Trace;

struct Layout {
  int dp = 1, cp = 1;
  int64_t zero = 0;
  int threads = 1;
  int64_t tp = 1, pp = 1;
  int ranks() const { return dp * cp * static_cast<int>(tp * pp); }
};

struct Outcome {
  Trace trace;
  CommCounts context;  // of the first rank's context group
};

Outcome train(const Json& hf, TrainConfig config, const Layout& layout, int64_t from, int64_t to,
              const fs::path& folder = {}, bool save = false) {
  config.parallel.zero = layout.zero;
  config.parallel.cp = layout.cp;
  config.parallel.tp = layout.tp;
  config.parallel.pp = layout.pp;
  const test::Trained done = test::train_on(layout.ranks(), layout.threads, hf, config, {from, to, folder, save});
  return {done.trace, done.sent.front()[static_cast<size_t>(Axis::cp)]};
}

// Several tiles of rows, so that owners share tensors; heads and widths that divide into leaves of 32.
Json wide(Json hf) {
  if (hf.contains("hidden_size")) {
    hf["hidden_size"] = 128, hf["intermediate_size"] = 384, hf["head_dim"] = 32;
    hf["num_attention_heads"] = 8, hf["num_key_value_heads"] = 4;
  }
  if (hf.contains("n_embd")) hf["n_embd"] = 128, hf["n_head"] = 4;
  return hf;
}

Json in_amx32(Json hf) {
  hf["llmctl"]["bf16_order"] = "amx32";
  return hf;
}

}  // namespace

TEST_CASE("digests after 20 steps are those of one rank on any number of context-parallel ranks", "[train][context]") {
  const std::vector<std::pair<std::string, Json>> runs = {{"bf16", wide(test::tiny_llama(4))},
                                                          {"f32", wide(test::tiny_gpt2(4))},
                                                          {"amx32", in_amx32(wide(test::tiny_llama(1)))}};
  for (const auto& [kind, hf] : runs) {
    TrainConfig config = test::tiny_config(kind == "amx32" ? "bf16" : kind);
    config.unit = {2, 48, 4};  // three documents a row, most of them over borders of chunks
    config.batch.units = 4;
    config.schedule.steps = 20;
    INFO(kind << " " << hf["architectures"].dump());
    const Trace reference = train(hf, config, {}, 0, 20).trace;
    for (const Layout& layout : {Layout{1, 2, 0}, Layout{1, 2, 1, 2}, Layout{1, 4, 0}, Layout{1, 4, 3}, Layout{2, 2, 0},
                                 Layout{2, 2, 1}, Layout{2, 2, 2}, Layout{3, 2, 3}, Layout{2, 4, 1}, Layout{1, 2, 0, 1, 2}, Layout{1, 2, 0, 1, 1, 2}, Layout{1, 2, 1, 1, 2, 2}}) {
      if (layout.tp > 1 && kind == "amx32") continue;  // one leaf
      INFO("dp " << layout.dp << " cp " << layout.cp << " tp " << layout.tp << " pp " << layout.pp << " zero " << layout.zero);
      const int64_t steps = layout.zero == 1 || layout.cp == 4 ? 20 : 4;
      CHECK(train(hf, config, layout, 0, steps).trace == Trace(reference.begin(), reference.begin() + steps));
    }
    for (const char* recompute : {"none", "block"}) {
      INFO("recompute " << recompute);
      config.parallel.recompute = recompute;
      config.parallel.units_per_pass = 2;
      CHECK(train(hf, config, {1, 2, 1}, 0, 4).trace == Trace(reference.begin(), reference.begin() + 4));
    }
  }
}

TEST_CASE("a checkpoint of context-parallel ranks goes on on any other layout", "[train][context]") {
  const Json hf = wide(test::tiny_llama(4));
  TrainConfig config = test::tiny_config();
  config.unit = {2, 48, 4};
  const Trace reference = train(hf, config, {}, 0, 6).trace;
  for (const auto& [before, after] : {std::pair<Layout, Layout>{{1, 4, 1}, {1, 1, 0}}, {{1, 1, 0}, {2, 2, 3}}, {{2, 2, 2}, {1, 2, 1}}}) {
    INFO("dp " << before.dp << " cp " << before.cp << ", then dp " << after.dp << " cp " << after.cp);
    const ScratchFolder scratch;
    train(hf, config, before, 0, 3, scratch.path, true);
    CHECK(train(hf, config, after, 3, 6, scratch.path).trace == Trace(reference.begin() + 3, reference.end()));
  }
}

// K and V of a rank's rows go to the others twice a layer (the forward, and for the backward), in the compute
// dtype; of dK and dV what its chunks give to keys of theirs, once, in fp32.
TEST_CASE("context-parallel ranks send what the formula says", "[train][context]") {
  const Json hf = test::tiny_llama(1);  // 2 layers, 2 KV heads of 16
  TrainConfig config = test::tiny_config();
  config.unit = {2, 48, 4};
  config.batch.units = 1;
  const Outcome out = train(hf, config, {1, 2, 0}, 0, 1);
  const int64_t rows = 2 * 48 / 2, width = 2 * 2 * 16, layers = 2;
  CHECK(out.context[CommKind::all_gather].bytes == layers * 2 * rows * width * 2);
  // The first rank has chunks 0 and 3: it sees all keys of the other's chunks 1 and 2.
  CHECK(out.context[CommKind::all_to_all].bytes == layers * rows * width * 4);
}

TEST_CASE("context-parallel layouts that do not divide are refused", "[train][context]") {
  TrainConfig config = test::tiny_config();
  config.unit = {2, 48, 2};
  CHECK_THROWS_WITH(train(test::tiny_gpt2(), config, {1, 4, 0}, 0, 1), Catch::Contains("parallel.cp 4 does not divide unit.chunks 2"));
}

}  // namespace llmctl
