// SPDX-License-Identifier: Apache-2.0
// An older epoch publishes nothing, wherever it was when it was overtaken.
#include "core/train/lease.h"

#include <signal.h>
#include <sys/wait.h>

#include <catch2/catch.hpp>
#include <mutex>
#include <set>
#include <thread>

#include "core/train/checkpoint.h"
#include "tests/core/tiny_model.h"
#include "tests/scratch.h"

namespace llmctl {
namespace {

const LeaseOptions kQuiet{.beat = 0};
const LeaseOptions kTakeOver{.take_over = true, .beat = 0};

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

// A process that takes the lease and stops for good, as a hung node does.
struct StoppedOwner {
  explicit StoppedOwner(const fs::path& run) {
    pid = ::fork();
    if (pid == 0) {
      auto* lease = new RunLease(run, kQuiet);  // never ended
      (void)lease;
      ::raise(SIGSTOP);
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(pid, &status, WUNTRACED);
  }
  ~StoppedOwner() { kill(); }
  void kill() {
    if (pid <= 0) return;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    pid = -1;
  }
  pid_t pid = -1;
};

}  // namespace

TEST_CASE("each start takes the next epoch; one that ended makes nobody wait", "[lease]") {
  ScratchFolder scratch;
  const fs::path run = scratch / "run";
  for (int64_t n = 1; n <= 3; ++n) {
    const RunLease lease(run, kQuiet);
    CHECK(lease.epoch() == n);
    CHECK(read_lease(run)["epoch"] == n);
    CHECK(read_lease(run)["ended"].is_null());
    CHECK(read_heartbeat(run)["epoch"] == n);
  }
  CHECK(read_lease(run)["ended"].is_number());
}

TEST_CASE("a second start is refused while the first lives, and fences it off when told to", "[lease]") {
  ScratchFolder scratch;
  const fs::path run = scratch / "run";
  RunLease first(run, kQuiet);
  CHECK(code_of([&] { RunLease second(run, kQuiet); }) == Code::usage);
  CHECK(message_of([&] { RunLease second(run, kQuiet); }).find("--take-over") != std::string::npos);
  first.check_held();
  RunLease second(run, kTakeOver);
  CHECK(second.epoch() == 2);
  CHECK(code_of([&] { first.check_held(); }) == Code::device);
  CHECK(code_of([&] { first.write("run.json", "{}"); }) == Code::device);
  CHECK_FALSE(fs::exists(run / "run.json"));
  second.write("run.json", "{}");
  CHECK(code_of([&] { first.remove(run / "run.json"); }) == Code::device);
  CHECK(scratch.get("run/run.json") == "{}");
}

TEST_CASE("the end of a fenced lease does not end the other", "[lease]") {
  ScratchFolder scratch;
  const fs::path run = scratch / "run";
  auto first = std::make_unique<RunLease>(run, kQuiet);
  const RunLease second(run, kTakeOver);
  first.reset();
  CHECK(read_lease(run)["epoch"] == 2);
  CHECK(read_lease(run)["ended"].is_null());
}

TEST_CASE("a process that is gone, or silent for long, makes nobody wait", "[lease]") {
  ScratchFolder scratch;
  const fs::path run = scratch / "run";
  StoppedOwner owner(run);
  CHECK(code_of([&] { RunLease second(run, kQuiet); }) == Code::usage);
  LeaseOptions patient = kQuiet;
  patient.fresh = 0;  // what is fresh after 0 s?
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(RunLease(run, patient).epoch() == 2);
  StoppedOwner third(run);
  third.kill();
  CHECK(RunLease(run, kQuiet).epoch() == 4);
}

TEST_CASE("what was staged before a new epoch began is not published after", "[lease]") {
  ScratchFolder scratch;
  const fs::path run = scratch / "run";
  RunLease first(run, kQuiet);
  fs::create_directory(first.staging() / "step-7");
  write_file(first.staging() / "step-7" / "DONE", "old", true);
  fs::create_directory(run / "checkpoints");
  fs::create_directory(run / "checkpoints" / "step-5");
  RunLease second(run, kTakeOver);
  CHECK(code_of([&] { first.publish("step-7", run / "checkpoints" / "step-7"); }) == Code::device);
  CHECK_FALSE(fs::exists(run / "checkpoints" / "step-7"));
  CHECK(code_of([&] { first.remove(run / "checkpoints" / "step-5"); }) == Code::device);
  CHECK(fs::exists(run / "checkpoints" / "step-5"));
  fs::create_directory(first.staging());  // even where something brings its folder back
  CHECK(code_of([&] { first.write("heartbeat.json", "{}"); }) == Code::device);
}

TEST_CASE("of many starts at once each has an epoch of its own, and the last holds the run", "[lease]") {
  ScratchFolder scratch;
  const fs::path run = scratch / "run";
  fs::create_directories(run);
  std::vector<std::unique_ptr<RunLease>> leases(32);
  std::vector<std::thread> threads;
  std::atomic<int> overtaken{0};
  std::mutex mutex;
  std::string others;
  for (size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 8; ++i) {
        try {
          leases[t * 8 + i] = std::make_unique<RunLease>(run, kTakeOver);
        } catch (const Error& e) {
          const std::lock_guard lock(mutex);
          e.code == Code::device ? void(++overtaken) : void(others += std::string(e.what()) + "\n");  // by one that began meanwhile
        }
      }
    });
  for (std::thread& t : threads) t.join();
  std::set<int64_t> epochs;
  int taken = 0, held = 0;
  for (const auto& lease : leases) {
    if (!lease) continue;
    ++taken;
    epochs.insert(lease->epoch());
    if (!error_code([&] { lease->check_held(); })) {
      ++held;
      CHECK(read_lease(run)["epoch"] == lease->epoch());
    }
  }
  CHECK(others == "");
  CHECK(taken + overtaken == 32);
  CHECK(epochs.size() == static_cast<size_t>(taken));
  CHECK(held == 1);
}

TEST_CASE("a checkpoint that is overtaken before its DONE does not appear", "[lease]") {
  ScratchFolder scratch;
  const fs::path run = scratch / "run";
  const TrainConfig config = test::tiny_config();
  test::Machine machine;
  Trainer trainer(config, test::tiny_spec(test::tiny_llama(), config), machine.exec);
  trainer.allocate();
  trainer.model().initialise(1);
  RunLease first(run, kQuiet);
  save_checkpoint(run, trainer.model(), {5, 0, "counted", ""}, 1, nullptr, &first);
  std::unique_ptr<RunLease> second;
  const auto overtake = [&](const fs::path&) { second = std::make_unique<RunLease>(run, kTakeOver); };
  CHECK(code_of([&] { save_checkpoint(run, trainer.model(), {7, 0, "counted", ""}, 1, overtake, &first); }) == Code::device);
  CHECK(latest_checkpoint(run, 100, nullptr) == run / "checkpoints" / "step-5");
  CHECK(std::distance(fs::directory_iterator(run / "checkpoints"), fs::directory_iterator()) == 1);
  save_checkpoint(run, trainer.model(), {6, 0, "counted", ""}, 1, nullptr, second.get());
  CHECK(latest_checkpoint(run, 100, nullptr) == run / "checkpoints" / "step-6");
  // A damaged one of the same step gives way.
  fs::remove(run / "checkpoints" / "step-6" / "DONE");
  save_checkpoint(run, trainer.model(), {6, 0, "counted", ""}, 1, nullptr, second.get());
  CHECK(latest_checkpoint(run, 100, nullptr) == run / "checkpoints" / "step-6");
}

}  // namespace llmctl
