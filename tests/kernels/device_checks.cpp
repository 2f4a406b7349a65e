// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/device_checks.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "kernels/build.h"

namespace llmctl::kn {
namespace {

struct Tally {
  int64_t cases = 0, refused = 0;
  double worst = 0;
};

// op -> level, of every header of the room. Tests run in the root of the checkout.
std::map<std::string, Level> read_levels() {
  std::map<std::string, Level> levels;
  for (const auto& entry : std::filesystem::directory_iterator("kernels")) {
    if (entry.path().extension() != ".h") continue;
    std::ifstream in(entry.path());
    std::string line, stated;
    while (std::getline(in, line)) {
      if (const size_t at = line.find("bits: "); at != std::string::npos && line.rfind("//", 0) == 0)
        stated = line.substr(at + 6);
      const size_t at = line.find("kName = \"");
      if (at == std::string::npos || line.rfind("//", 0) == 0) continue;
      const std::string name = line.substr(at + 9, line.find('"', at + 9) - at - 9);
      if (stated.rfind("none", 0) == 0) continue;
      levels[name] = stated.find("any-cpu+cuda") != std::string::npos ? Level::same_bits : Level::backend;
    }
  }
  return levels;
}

const std::map<std::string, Level>& levels() {
  static const auto* all = new std::map<std::string, Level>(read_levels());  // outlives every exit handler
  return *all;
}

std::map<std::string, Tally>& tallies() {
  static auto* all = new std::map<std::string, Tally>;
  return *all;
}

// At exit; an op of the headers that no case ran on the device fails the run, where that is asked for.
void print_report() {
  int missing = 0;
  std::printf("%-20s %-14s %8s %8s  %s\n", "op", "level", "cases", "refused", "largest difference");
  for (const auto& [name, level] : levels()) {
    const Tally& t = tallies()[name];
    std::printf("%-20s %-14s %8lld %8lld  ", name.c_str(), level == Level::same_bits ? "any-cpu+cuda" : "backend",
                static_cast<long long>(t.cases), static_cast<long long>(t.refused));
    if (t.cases == 0)
      std::printf("NOT RUN\n"), ++missing;
    else if (t.worst == 0)
      std::printf("none: the CPU's bits\n");
    else
      std::printf("%.2g of the rms\n", t.worst);
  }
  std::fflush(stdout);
  const char* all = std::getenv("LLMCTL_TEST_EVERY_OP");
  if (missing && all && *all == '1') {
    std::fprintf(stderr, "%d ops ran on no device\n", missing);
    std::_Exit(1);
  }
}

[[noreturn]] void no_device(const char* why) {
  std::fprintf(stderr, "no device: %s\n", why);
  std::_Exit(6);
}

}  // namespace

Level level_of(const std::string& op) {
  const auto it = levels().find(op);
  check(it != levels().end(), Code::bug, "[device_check] kernels/*.h states no level for ", op);
  return it->second;
}

const Exec* device_under_test() {
  static Exec ex;
  static const bool there = [] {
    const char* wanted = std::getenv("LLMCTL_TEST_DEVICE");
    if (!wanted || std::string(wanted) == "cpu") return false;
    if (!kHaveCuda) no_device("this build has no CUDA code");
    if (device_count() == 0) no_device("the driver or the GPU is missing");
    ex.device = {DeviceKind::cuda, 0};
    use_device(ex);
    ex.stream = new_stream(ex.device);
    std::atexit(print_report);
    return true;
  }();
  return there ? &ex : nullptr;
}

void note_device_case(const char* op, double error) {
  Tally& t = tallies()[op];
  ++t.cases;
  if (error > t.worst) t.worst = error;
}

void note_device_refusal(const char* op) { ++tallies()[op].refused; }

}  // namespace llmctl::kn
