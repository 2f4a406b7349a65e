// SPDX-License-Identifier: Apache-2.0
#include <fstream>

#include "cmd/build_id.h"
#include "cmd/commands.h"
#include "kernels/build.h"
#include "kernels/device.h"

namespace llmctl {
namespace {

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.rfind("model name", 0) == 0)
      if (size_t colon = line.find(": "); colon != std::string::npos) return line.substr(colon + 2);
  return "unknown";
}

int version(const Common& common) {
  Json sets = Json::array();
  std::string names;
  for (kn::Isa isa : kn::supported_isas()) {
    sets.push_back(kn::name_of(isa));
    names += std::string(" ") + kn::name_of(isa);
  }
  std::string model = cpu_model();
  std::string gpus;
  Json devices = Json::array({{{"name", "cpu"}, {"model", model}, {"threads", usable_cpus()}}});
  for (int i = 0; i < kn::device_count(); ++i) {
    const kn::DeviceInfo d = kn::device_info(i);
    devices.push_back({{"name", "cuda:" + std::to_string(i)}, {"model", d.name}, {"bytes", d.memory},
                       {"capability", std::to_string(d.major) + "." + std::to_string(d.minor)}, {"processors", d.processors}});
    gpus += "\ncuda:" + std::to_string(i) + ": " + d.name + ", " + std::to_string(d.memory >> 30) + " GiB";
  }
  Json result = {{"version", kVersion},   {"build_id", kBuildId}, {"numerics_version", kNumericsVersion},
                 {"cuda", kn::kHaveCuda}, {"devices", devices},   {"instruction_sets", sets}};
  std::string human = std::string("llmctl ") + kVersion + " (" + kBuildId + "), numerics " +
                      std::to_string(kNumericsVersion) + "\ncpu: " + model + ", " +
                      std::to_string(usable_cpus()) + " threads,";
  print_result(common, result, human + (names.empty() ? " no FMA: unsupported" : names) + gpus);
  return 0;
}

}  // namespace

void add_version(CLI::App& root, Common& common) {
  auto wanted = std::make_shared<bool>(false);
  root.add_flag("--version", *wanted, "print version, build, devices and instruction sets");
  root.add_flag("--json", common.json, "as JSON");
  on_run(root, common, [wanted, &common] {
    check(*wanted, Code::usage, "[flags] a verb is needed; see llmctl --help");
    return version(common);
  });
}

}  // namespace llmctl
