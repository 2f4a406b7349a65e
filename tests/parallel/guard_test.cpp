// SPDX-License-Identifier: Apache-2.0
// The guard on ranks: what is not finite, what jumps, and a machine that does not compute the same twice.
#include "core/train/guard.h"

#include <atomic>

#include "tests/parallel/run_checks.h"

namespace llmctl {
namespace {

using test::bits_of;
using test::metrics_of;
using test::run_case;
using test::RunCase;

constexpr int64_t kBad = 8;  // the step of random tokens

// CountedTokens, but for one step: random tokens and targets, at each reading other ones if `unsteady`.
struct Spiky final : BatchSource {
  explicit Spiky(bool u = false) : unsteady(u) {}
  void read(int64_t step, int64_t unit, Batch& out) const override {
    counted.read(step, unit, out);
    if (step != kBad) return;
    const auto reading = static_cast<uint32_t>(unsteady ? readings.fetch_add(1) : 0);
    const kn::RandomKey key{9, static_cast<uint32_t>(unit), reading};
    for (size_t i = 0; i < out.tokens.size(); ++i) {
      const auto word = kn::random_words(key, i);
      out.tokens[i] = static_cast<int32_t>(word.word[0] % 131);
      if (out.targets[i] >= 0) out.targets[i] = static_cast<int32_t>(word.word[1] % 131);
    }
  }
  std::string digest() const override { return counted.digest(); }
  int64_t tokens() const override { return counted.tokens(); }
  bool unsteady;
  mutable std::atomic<int> readings{0};
  test::CountedTokens counted{2, 37, 131};
};

RunCase spiky_case(const BatchSource& source, const char* action, int ranks = 1, int64_t zero = 0) {
  RunCase c;
  c.source = &source;
  c.ranks = ranks;
  c.config.parallel.zero = zero;
  c.config.optimizer.learning_rate = 1e-2;
  c.config.checkpoint.every = 3;
  c.config.checkpoint.keep = 0;
  c.config.guard = {action, 1.05, 3, 8};
  return c;
}

Json skipped_of(const fs::path& run) {
  return read_json(run / "run.json").value("skipped", Json::array());
}

}  // namespace

TEST_CASE("a loss is compared with the median of those before", "[guard]") {
  const GuardConfig config{"skip", 2.0, 4, 2};
  Guard guard(config);
  StepResult r;
  r.loss = 100;
  for (const double loss : {9.0, 1.0, 2.0}) guard.taken(loss);
  CHECK(guard.objection(r) == "");  // three losses of four
  guard.taken(3);
  CHECK(guard.objection(r) == "the loss 100.0000 is more than 2 times 2.5000, the median of the last 4");
  r.loss = 5;
  CHECK(guard.objection(r) == "");
  guard.taken(1);  // the 9 is forgotten: 1, 2, 3, 1
  CHECK(guard.objection(r) != "");
  r.loss = 0, r.fault = "the gradient of x is not finite";
  CHECK(guard.objection(r) == r.fault);
  guard.skip({5, "a", "b"});
  guard.skip({7, "c", "d"});
  CHECK(guard.skipped(7)->reason == "c");
  CHECK(guard.skipped(6) == nullptr);
  CHECK_THROWS_WITH(guard.skip({9, "e", "f"}),
                    Catch::Contains("the run gave up: 2 steps are skipped already"));
  Guard again(config);
  again.restore({{"losses", {1.0, 1.0, 1.0, 1.0}}, {"skipped", guard.skipped_json()}});
  CHECK(again.skipped(5)->batch == "b");
  r.fault = "", r.loss = 2.5;
  CHECK(again.objection(r) != "");
  for (const char* bad : {R"({"skipped": 3})", R"({"skipped": [3]})",
                          R"({"skipped": [{"step": "3", "reason": "", "batch": ""}]})"})
    CHECK(code_of([&] { skipped_steps(Json::parse(bad)); }) == Code::input);
}

TEST_CASE("two runs of a step are compared by what they made", "[guard]") {
  for (const int64_t units : {8, 1}) {
    test::Machine machine(2);
    TrainConfig config = test::tiny_config();
    config.batch.units = units;
    const test::CountedTokens source(2, 37, 131);
    Trainer trainer(config, test::tiny_spec(test::tiny_llama(), config), machine.exec);
    trainer.allocate();
    trainer.model().initialise(1);
    trainer.gradients(source, 0);
    const std::vector<Evidence> first = trainer.evidence();
    trainer.gradients(source, 0);
    CHECK(difference_of(first, trainer.evidence()) == "");
    WeightState& w = trainer.model().parameters().all()[3];
    w.grad.as<uint8_t>()[5] ^= 4;  // one bit
    CHECK_THAT(difference_of(first, trainer.evidence()),
               Catch::StartsWith("the gradient of " + w.spec.params[0].name + " was"));
    trainer.gradients(source, 1);
    CHECK_THAT(difference_of(first, trainer.evidence()), Catch::StartsWith("the loss of unit 0 was"));
    CHECK(difference_of(first, {}) == "");
  }
}

TEST_CASE("a step that is not finite stops all ranks, or is skipped until the guard gives up", "[guard]") {
  for (const auto& [ranks, zero] : {std::pair{1, 0}, {3, 1}, {2, 3}})
    for (const char* action : {"stop", "skip", "rewind"}) {
      INFO(ranks << " ranks, zero " << zero << ", " << action);
      RunCase c;
      c.ranks = ranks;
      c.config.parallel.zero = zero;
      c.config.optimizer.learning_rate = 1e10;  // diverges
      c.config.guard.action = action;
      c.config.guard.max_skips = 2;
      const ScratchFolder scratch;
      CHECK_THROWS_WITH(run_case(c, scratch.path),
                        Catch::Contains("not finite") &&
                            Catch::Contains(action == std::string("stop") ? "twice in a row" : "gave up"));
      CHECK(skipped_of(scratch.path).size() == (action == std::string("stop") ? 0 : 2));
    }
}

TEST_CASE("a jump of the loss stops, is skipped or rewound: one digest for all ways to skip it", "[guard]") {
  const Spiky source;
  const ScratchFolder reference, stopped;
  run_case(spiky_case(source, "skip"), reference.path);
  const std::vector<Json> lines = metrics_of(reference.path);
  REQUIRE(lines.size() == 12);
  CHECK_THAT(lines[kBad].value("skipped", ""), Catch::StartsWith("the loss "));
  CHECK(lines[kBad]["digest"]["weights"] == lines[kBad - 1]["digest"]["weights"]);
  CHECK_FALSE(lines[kBad].contains("loss"));
  for (const Json& line : lines) CHECK(line.contains("skipped") == (line["step"] == kBad));
  REQUIRE(skipped_of(reference.path).size() == 1);
  CHECK(skipped_of(reference.path)[0]["batch"] == lines[kBad]["digest"]["batch"]);
  const std::string wanted = bits_of(reference.path);

  CHECK_THROWS_WITH(run_case(spiky_case(source, "stop"), stopped.path),
                    Catch::Contains("step 8: the loss") && Catch::Contains("twice in a row"));
  for (const auto& [ranks, zero] : {std::pair{1, 0}, {3, 0}, {3, 1}, {2, 3}})
    for (const char* action : {"skip", "rewind"})
      for (const int64_t every : {3, 0}) {  // 0: back to the start
        INFO(ranks << " ranks, zero " << zero << ", " << action << ", saved every " << every);
        const ScratchFolder scratch;
        RunCase c = spiky_case(source, action, ranks, zero);
        c.config.checkpoint.every = every;
        run_case(c, scratch.path);
        CHECK(bits_of(scratch.path) == wanted);
        CHECK(skipped_of(scratch.path) == skipped_of(reference.path));
      }
}

TEST_CASE("a resumed run skips what the run skipped, and decides as it would have", "[guard]") {
  const Spiky source;
  const ScratchFolder reference;
  run_case(spiky_case(source, "skip"), reference.path);
  const std::string wanted = bits_of(reference.path);
  for (const int64_t stop : {2, 7, 8, 9}) {  // the median is of lines of the metrics
    INFO("stopped after " << stop);
    const ScratchFolder scratch;
    RunCase c = spiky_case(source, "skip");
    c.stop_after = stop;
    run_case(c, scratch.path);
    c.stop_after = 0, c.resume = true;
    run_case(c, scratch.path);
    CHECK(bits_of(scratch.path) == wanted);
  }
  // run.json alone says it, whatever the guard is now.
  fs::remove_all(checkpoint_folder(reference.path, 12));
  fs::remove_all(checkpoint_folder(reference.path, 9));
  RunCase c = spiky_case(source, "stop", 2, 1);
  c.config.guard.spike = 0;
  c.resume = true;
  run_case(c, reference.path);
  CHECK(bits_of(reference.path) == wanted);
}

TEST_CASE("a step that comes out otherwise when run again is the machine's", "[guard]") {
  const Spiky source(true);
  for (const int ranks : {1, 2}) {
    const ScratchFolder scratch;
    const RunCase c = spiky_case(source, "skip", ranks);
    Code code{};
    std::string text;
    try {
      run_case(c, scratch.path);
    } catch (const Error& e) {
      code = e.code, text = e.what();
    }
    CHECK(code == Code::device);
    CHECK_THAT(text, Catch::Contains("but run again, the loss of unit 0 was") &&
                         Catch::Contains("at rank 0 on host " + host_name()));
    CHECK(skipped_of(scratch.path).empty());
  }
}

}  // namespace llmctl
