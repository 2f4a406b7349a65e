// SPDX-License-Identifier: Apache-2.0
// Predicted step times against published ones. tests/parallel/training_points.json holds the rows as the model's inputs
// with their sources: tests/bench/planner_fit.py --write makes it from the CSV and judges models left out of the fit.
#include "parallel/step_time.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "core/base/json.h"

using namespace llmctl;

namespace {

StepShape shape_of(const Json& r) {
  StepShape s;
  auto get = [&](const char* key) { return r[key].get<double>(); };
  s.layers = get("layers"), s.hidden = get("hidden"), s.attention = get("attention"), s.kv = get("kv");
  s.heads = get("heads"), s.ffn = get("ffn"), s.vocab = get("vocab"), s.gated = get("gated") > 0;
  if (r["experts"].is_array()) {
    s.experts = r["experts"][0].get<double>(), s.per_token = r["experts"][1].get<double>();
    s.expert_width = r["experts"][2].get<double>(), s.expert_layers = s.layers;
  }
  s.seq = get("seq"), s.sequences = get("mbs"), s.units = get("units");
  s.tp = get("tp"), s.pp = get("pp"), s.cp = get("cp"), s.ep = get("ep"), s.dp = get("dp"), s.chunks = get("chunks");
  s.schedule = s.chunks > 1 ? "interleaved" : "1f1b";
  s.zero = r["zero"].get<int>();
  const std::string recompute = r["recompute"];
  s.recompute = recompute == "full" ? Recomputed::all : recompute == "selective" ? Recomputed::attention : Recomputed::none;
  return s;
}

Stack stack_of(const Json& r) {
  Stack k;
  auto yes = [&](const char* key) { return r[key].get<int>() != 0; };
  k.fused_attention = yes("fused"), k.recent_attention = yes("recent"), k.overlap = yes("overlap");
  k.sequence_parallel = yes("sp"), k.slow_gather = yes("slow_gather");
  k.gradient_bytes = r["zero"] == 3 || k.overlap ? 2 : 4;
  k.exchange_bytes = 2;
  k.speed = r["stack"] == "old" ? kOldStack : r["stack"] == "tuned" ? kTunedStack : 1;
  return k;
}

const Json& points() {
  static const Json json = read_json("tests/parallel/training_points.json");
  return json;
}

StepTime time_of(const Json& r) {
  return step_time(shape_of(r), hardware_named(known_hardware(), r["gpu"].get<std::string>()), stack_of(r));
}

}  // namespace

TEST_CASE("step times are those of the fit, and within 8 % of what was published", "[plan]") {
  double error = 0, worst = 0;
  int rows = 0;
  for (const Json& r : points()) {
    INFO(r["line"] << " " << r["model"]);
    const double seconds = time_of(r).total();
    CHECK(seconds == Approx(r["predicted"].get<double>()).epsilon(2e-3));  // constants are rounded here
    if (r["kind"] != "dense") continue;
    const double off = std::abs(seconds / r["seconds"].get<double>() - 1);
    error += off, worst = std::max(worst, off), ++rows;
  }
  CHECK(rows > 150);
  CHECK(error / rows < 0.08);
  CHECK(worst < 0.3);
}

TEST_CASE("a step's parts answer to what they are about", "[plan]") {
  const Hardware h100 = hardware_named(known_hardware(), "H100");
  const StepShape base{.layers = 32, .hidden = 4096, .attention = 4096, .kv = 1024, .heads = 32, .ffn = 14336, .vocab = 128256,
                       .seq = 8192, .sequences = 1, .units = 16, .tp = 2, .pp = 4, .dp = 8};
  auto with = [&](auto change) {
    StepShape s = base;
    change(s);
    return step_time(s, h100);
  };
  const StepTime t = step_time(base, h100);
  CHECK(t.limit() == "compute");
  CHECK(t.bubble == Approx(3.0 / 16 * (t.compute + t.memory + t.tensor + t.pipeline)));
  CHECK(with([](StepShape& s) { s.schedule = "interleaved", s.chunks = 2; }).bubble == Approx(t.bubble / 2).epsilon(0.05));
  CHECK(with([](StepShape& s) { s.schedule = "zero_bubble"; }).bubble == Approx(t.bubble / 3));
  CHECK(with([](StepShape& s) { s.units = 32; }).compute == Approx(2 * t.compute));
  CHECK(with([](StepShape& s) { s.units = 1; }).limit() == "bubble");
  const StepTime again = with([](StepShape& s) { s.recompute = Recomputed::all; });
  CHECK(again.hardware_flops > 1.25 * t.hardware_flops);
  CHECK(again.traffic.tensor == Approx(1.5 * t.traffic.tensor));
  // A weight's gradient travels once a step in 8 bytes and comes back in 2; with ZeRO 3, with each unit.
  const double weights = (32 * (2.0 * 4096 * 5120 + 3.0 * 4096 * 14336) + 2.0 * 4096 * 128256) / 8;
  CHECK(t.traffic.data == Approx(10 * weights * 7 / 8));
  CHECK(with([](StepShape& s) { s.zero = 3; }).traffic.data == Approx(12 * 16 * weights * 7 / 8));
  // Experts: the weights of all, the work of those chosen.
  const StepTime experts = with([](StepShape& s) { s.experts = 8, s.per_token = 2, s.expert_width = 14336 / 2, s.expert_layers = 32; });
  CHECK(experts.compute == Approx(t.compute).epsilon(0.01));
  CHECK(experts.traffic.data > 2.5 * t.traffic.data);
  CHECK(experts.traffic.experts == 0);
  CHECK(with([](StepShape& s) { s.experts = 8, s.per_token = 2, s.expert_width = 7168, s.expert_layers = 32, s.ep = 4; }).traffic.experts > 0);
}

TEST_CASE("a user's devices add to the table and override it", "[plan]") {
  const auto rows = read_hardware(parse_json(R"({"devices": {"h100": {"price": 9}, // dearer
    "mine": {"tflops": 100, "memory_gb": 10, "memory_gbps": 500, "link_gbps": 10, "network_gbps": 1, "node": 4, "watts": 300, "price": 1}}})", "t"),
                                  "t", known_hardware());
  CHECK(hardware_named(rows, "H100").price == 9);
  CHECK(hardware_named(rows, "h100").flops == 989e12);
  CHECK(hardware_named(rows, "Mine").memory == 10e9);
  CHECK_THROWS_WITH(hardware_named(rows, "h900"), Catch::Contains("no device 'h900'") && Catch::Contains("a100, ") && Catch::Contains("mine"));
  CHECK_THROWS_WITH(read_hardware(parse_json(R"({"devices": {"x": {"tflops": 1}}})", "t"), "t"), "t: x: 'memory_gb' is missing");
  CHECK_THROWS_WITH(read_hardware(parse_json(R"({"devices": {"x": {"tflop": 1}}})", "t"), "t"), "t: x: no field 'tflop'");
  CHECK_THROWS_WITH(read_hardware(parse_json(R"({"devices": {"x": {"tflops": -1}}})", "t"), "t"), Catch::Contains("tflops is -1"));
}
