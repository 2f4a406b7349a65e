// SPDX-License-Identifier: Apache-2.0
// Saves that run beside training: the bits of those that do not, on any layout; what fails in one fails on
// all ranks, and nothing half-written has a name.
#include <atomic>
#include <chrono>
#include <thread>

#include "core/train/checkpoint_writer.h"
#include "tests/parallel/run_checks.h"

namespace llmctl {
namespace {

using test::bits_of;
using test::run_case;
using test::RunCase;

std::string digest_of_model(const fs::path& run, int64_t step) {
  return digest_of_file(checkpoint_folder(run, step) / "model" / "model.safetensors").hex();
}

void check_saves_alike(RunCase c) {
  const ScratchFolder beside, alone;
  run_case(c, beside.path);
  c.config.checkpoint.asynchronous = false;
  run_case(c, alone.path);
  CHECK(bits_of(beside.path) == bits_of(alone.path));
  for (int64_t step = 1; step <= c.config.schedule.steps; ++step) {
    CHECK(digest_of_model(beside.path, step) == digest_of_model(alone.path, step));
    for (const auto& e : fs::directory_iterator(checkpoint_folder(beside.path, step) / "state"))
      CHECK(digest_of_file(e.path()) ==
            digest_of_file(checkpoint_folder(alone.path, step) / "state" / e.path().filename()));
  }
}

}  // namespace

TEST_CASE("a gate holds a weight until it is written", "[saves]") {
  SaveGate gate;
  gate.wait(5);  // open
  gate.close();
  gate.release(2);
  gate.wait(1);
  CHECK(gate.blocked() == 0);
  std::atomic<int> passed{0};
  std::thread training([&] {
    for (size_t w = 2; w < 6; ++w) gate.wait(w), passed.fetch_add(1);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(passed == 0);
  gate.release(4);
  while (passed < 2) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(passed == 2);
  gate.open();
  training.join();
  CHECK(gate.blocked() > 0.03);
}

TEST_CASE("a save waits for the one before, and its error reaches who waits", "[saves]") {
  test::Machine machine(1);
  const auto alone = solo_comm();
  CheckpointWriter writer(*alone, machine.exec, true);
  CHECK_FALSE(writer.done());
  std::atomic<bool> go{false}, ended{false};
  writer.start(3, [&](const BesideTraining&) {
    while (!go) std::this_thread::yield();
    ended = true;
  });
  CHECK_FALSE(writer.done());
  std::thread later([&] { go = true; });
  writer.start(4, [&](const BesideTraining& beside) {
    CHECK(ended);
    beside.gate->release(1);
    throw Error(Code::io, "[test] the disk is full");
  });
  later.join();
  writer.gate().wait(7);  // a failed save holds nothing
  CHECK(code_of([&] { writer.wait(); }) == Code::io);
  CHECK(writer.failed());
  CHECK_FALSE(writer.done());  // nobody hears that it was written
}

TEST_CASE("runs have the same bits and checkpoints with saves beside them and without", "[saves]") {
  for (const char* optimizer : {"adamw", "muon"})
    for (const auto& [ranks, zero] : {std::pair{1, 0}, {3, 0}, {3, 1}, {2, 2}, {3, 3}}) {
      INFO(optimizer << " " << ranks << " ranks, zero " << zero);
      RunCase c;
      c.config.optimizer.name = optimizer;
      c.config.schedule.steps = 3;
      c.config.checkpoint.every = 1;
      c.config.checkpoint.keep = 0;
      c.config.parallel.zero = zero;
      c.ranks = ranks;
      check_saves_alike(c);
    }
}

TEST_CASE("a step that is shorter than a save waits for it and changes nothing that is saved", "[saves]") {
  RunCase c;  // much to write, little to compute
  c.hf = test::tiny_gpt2();
  c.hf["vocab_size"] = 8192;
  c.hf["n_embd"] = 192;
  c.config.unit = {1, 16};
  c.config.batch.units = 2;
  c.config.schedule.steps = 3;
  c.config.checkpoint.every = 1;
  c.config.checkpoint.keep = 0;
  for (const int ranks : {1, 2}) {
    c.ranks = ranks;
    check_saves_alike(c);
  }
}

namespace {

// At step 7 it waits for the checkpoint of step 6.
struct WaitsForSave final : BatchSource {
  explicit WaitsForSave(fs::path r) : run(std::move(r)) {}
  void read(int64_t step, int64_t unit, Batch& out) const override {
    while (step == 7 && !fs::exists(checkpoint_folder(run, 6) / "DONE")) std::this_thread::yield();
    counted.read(step, unit, out);
  }
  std::string digest() const override { return counted.digest(); }
  int64_t tokens() const override { return counted.tokens(); }
  fs::path run;
  test::CountedTokens counted{2, 37, 131};
};

}  // namespace

TEST_CASE("a save's times are in the line of the step that ends after it", "[saves]") {
  for (const bool asynchronous : {true, false}) {
    const ScratchFolder scratch;
    const WaitsForSave source(scratch.path);
    RunCase c;
    c.source = &source;
    c.config.schedule.steps = 11;
    c.config.checkpoint.every = 6;
    c.config.checkpoint.asynchronous = asynchronous;
    c.extra = [](const fs::path&) { std::this_thread::sleep_for(std::chrono::milliseconds(100)); };
    run_case(c, scratch.path);
    std::vector<Json> told;
    for (const Json& line : test::metrics_of(scratch.path))
      if (line.contains("checkpoint_seconds")) told.push_back(line);
    REQUIRE(told.size() == 1);
    CHECK(told[0]["checkpoint_seconds"] > 0.1);
    CHECK((told[0]["checkpoint_blocked_seconds"] < 0.1) == asynchronous);
    CHECK((told[0]["step"] == 6) != asynchronous);
  }
}

TEST_CASE("a save that fails on one rank fails on all, and leaves nothing with a name", "[saves]") {
  for (const int ranks : {1, 3})
    for (const bool last : {false, true}) {
      INFO(ranks << " ranks, " << (last ? "in the last save" : "in the second"));
      RunCase c;
      c.ranks = ranks;
      c.config.parallel.zero = ranks > 1 ? 2 : 0;
      c.config.checkpoint.every = 3;
      std::atomic<int> saves{0};
      c.extra = [&](const fs::path& model) {
        if (++saves == (last ? 4 : 2)) write_file("/dev/full", model.string(), true);
      };
      const ScratchFolder scratch;
      CHECK_THROWS_WITH(run_case(c, scratch.path), Catch::Contains("cannot write: No space left"));
      const int64_t done = last ? 9 : 3;
      CHECK(newest_done(scratch.path) == done);
      for (const auto& e : fs::directory_iterator(scratch.path / "checkpoints"))
        CHECK(fs::exists(e.path() / "DONE"));
      c.resume = true;
      CHECK(run_case(c, scratch.path).steps == 12);
      const ScratchFolder undisturbed;
      c.extra = nullptr;
      c.resume = false;
      run_case(c, undisturbed.path);
      CHECK(bits_of(scratch.path) == bits_of(undisturbed.path));
    }
}

}  // namespace llmctl
