// SPDX-License-Identifier: Apache-2.0
// The cost model of `bench scaling` against counts made by hand, and its page.
#include "cmd/bench_cost.h"

#include <catch2/catch.hpp>

#include "cmd/bench.h"

using namespace llmctl;

namespace {

// D 64, 2 layers, 4 heads of 16, 2 key heads, MLP 96, vocabulary 100, untied.
ModelSpec tiny(bool tied = false) {
  return make_model_spec({{"architectures", {"LlamaForCausalLM"}},
                          {"hidden_size", 64},
                          {"intermediate_size", 96},
                          {"num_hidden_layers", 2},
                          {"num_attention_heads", 4},
                          {"num_key_value_heads", 2},
                          {"vocab_size", 100},
                          {"max_position_embeddings", 256},
                          {"tie_word_embeddings", tied}},
                         DType::bf16, "[test]");
}

CostShape shape_of(const ModelSpec& spec) {
  return cost_shape(spec.config, spec.table());
}

// Q 64 x 64, K and V 32 x 64, output 64 x 64, gate and up 96 x 64, down 64 x 96.
constexpr double kBlock = 64 * 64 + 2 * 32 * 64 + 64 * 64 + 2 * 96 * 64 + 64 * 96;
constexpr double kHead = 100 * 64;

}  // namespace

TEST_CASE("what a cost is made of comes from the shape", "[bench]") {
  const CostShape s = shape_of(tiny());
  CHECK(s.matrices == 2 * kBlock);
  CHECK(s.head == kHead);
  CHECK(s.parameters == 2 * (kBlock + 2 * 64) + 64 + 2 * kHead);  // norms; embedding and head
  CHECK(s.weight_bytes == 2 * (2 * kBlock + kHead));
  CHECK(s.attention_width == 64);
  CHECK(s.kv_width == 32);
  const CostShape tied = shape_of(tiny(true));
  CHECK(tied.head == kHead);
  CHECK(tied.parameters == s.parameters - kHead);
}

TEST_CASE("a training step of 3 x 8 tokens, counted by hand", "[bench]") {
  using enum WorkKind;
  const Cost c = training_cost(shape_of(tiny()), 3, 8);
  CHECK(c[products].flops == 4 * 24 * (2 * kBlock + kHead));
  CHECK(c[gradients].flops == 2 * 24 * (2 * kBlock + kHead));
  CHECK(c[attention].flops == 3 * 2 * 2.0 * 8 * 8 * 64);  // sequences, layers, products
  CHECK(c[attention_backward].flops == 3 * 2 * 5.0 * 8 * 8 * 64);
  CHECK(c[loss].bytes == 16 * 24 * 100);
  CHECK(c[optimiser].bytes == 36 * (2 * (kBlock + 128) + 64 + 2 * kHead));
  CHECK(c[sampling].bytes == 0);
  // The six FLOPs for each weight and token that everyone counts.
  CHECK(c[products].flops + c[gradients].flops == 6 * 24 * (2 * kBlock + kHead));
}

TEST_CASE("a prefill in pieces and a decoding step, counted by hand", "[bench]") {
  using enum WorkKind;
  const CostShape s = shape_of(tiny());
  const Cost p = prefill_cost(s, 20, 8);  // three pieces; one row of logits
  CHECK(p[products].flops == 2 * 20 * 2 * kBlock + 2 * kHead);
  CHECK(p[products].bytes == Approx(2 * (3 * 2 * kBlock + kHead)));
  CHECK(p[attention].flops == 2 * 2.0 * 20 * 20 * 64);
  const Cost d = decode_cost(s, 5, 100);
  CHECK(d[products].flops == 2 * 5 * (2 * kBlock + kHead));
  CHECK(d[products].bytes == 2 * (2 * kBlock + kHead));  // once for all five
  CHECK(d[attention].flops == 4 * 5 * 100 * 64 * 2);
  CHECK(d[attention].bytes == 2 * 2 * 5 * 100 * 32 * 2);  // keys and values, bf16, of every layer
  CHECK(d[sampling].bytes == 12 * 5 * 100);
}

TEST_CASE("a kind takes the longer of its arithmetic and its memory, and its ops", "[bench]") {
  const Probes probes{.products = 1000, .flops = 500, .bytes = 100, .op_seconds = 0.25};
  using enum WorkKind;
  CHECK(seconds_of(Work{2000, 100, 0}, products, probes, {}) == 2);        // 2 and 1
  CHECK(seconds_of(Work{2000, 300, 0}, products, probes, {}) == 3);        // 2 and 3
  CHECK(seconds_of(Work{2000, 100, 4}, attention, probes, {}) == 5);       // 4 and 1, four ops
  CHECK(seconds_of(Work{2000, 100, 0}, products, probes, {0.5, 1}) == 4);  // at half the rate
  Cost c;
  c[products] = {2000, 100, 0};
  c[loss] = {0, 200, 2};
  CHECK(seconds_of(c, probes, Shares{}) == 4.5);
}

TEST_CASE("calibrating gives back what was measured, and only the rate that bounds", "[bench]") {
  const Probes probes{.products = 1e12, .flops = 5e11, .bytes = 3e10, .op_seconds = 1e-6};
  const Cost cost = decode_cost(shape_of(tiny()), 1, 100);
  KindSeconds measured;
  double sum = 0;
  for (int k = 0; k < kWorkKinds; ++k) {
    const auto kind = static_cast<WorkKind>(k);
    if (cost[kind].bytes > 0) sum += measured[kind] = 1e-4 * (k + 1);
  }
  Shares shares;
  calibrate(shares, cost, measured, probes);
  CHECK(seconds_of(cost, probes, shares) == Approx(sum));
  CHECK(shares[WorkKind::products].flops == 1);  // bound by memory: arithmetic was not seen
  CHECK(shares[WorkKind::products].bytes < 1);
  CHECK(shares[WorkKind::optimiser].bytes == 1);  // no such work
}

TEST_CASE("the seconds of ops go to their kinds, the rest to the one named", "[bench]") {
  OpTimes times;
  for (const char* op : {"gemm", "gemm_dw", "attn_fwd", "adamw", "rope"}) times.begin(op), times.end(op);
  double traced = 0;
  for (const OpTimes::Row& row : times.rows()) traced += row.seconds;
  const KindSeconds k = kind_seconds(times, traced + 2, WorkKind::sampling);
  CHECK(k[WorkKind::sampling] == Approx(2));
  double sum = 0;
  for (double seconds : k.values) sum += seconds;
  CHECK(sum == Approx(traced + 2));
  CHECK(k[WorkKind::loss] == 0);
}

TEST_CASE("the page of a sweep draws every curve and lists what was left out", "[bench]") {
  std::vector<BenchRow> rows;
  for (double at : {256.0, 1024.0, 4096.0})
    rows.push_back({.name = "context",
                    .value = 1e6 / at,
                    .unit = "tokens/s",
                    .limit = 2e6 / at,
                    .axis = "context",
                    .curve = "train",
                    .at = at,
                    .predicted = 9e5 / at,
                    .planned_bytes = 1000,
                    .peak_bytes = 990});
  rows.push_back({.name = "params 9B",
                  .unit = "tokens/s",
                  .axis = "params",
                  .curve = "train",
                  .at = 9e9,
                  .skipped = "needs <more>"});
  const std::string page = sweep_page(rows, "a test");
  auto count = [&](const std::string& part) {
    size_t n = 0;
    for (size_t at = page.find(part); at != std::string::npos; at = page.find(part, at + 1)) ++n;
    return n;
  };
  CHECK(count("<svg") == 2);  // speed and memory of one curve
  CHECK(count("<tr>") == 5);
  CHECK(count("needs &lt;more&gt;") == 1);
  CHECK(count("predicted: 878.9") == 1);  // a point tells its value when hovered
}
