// SPDX-License-Identifier: Apache-2.0
// What `launch local`, `launch slurm` and `launch kubernetes` share: the words of `llmctl train`.
#pragma once

#include <string>
#include <vector>

#include "cmd/flags.h"

namespace llmctl {

struct LaunchWords {
  std::vector<std::string> train;  // CONFIG, or "train CONFIG ..."
  std::string run;
};
void add_words(CLI::App& app, LaunchWords& words);
// What follows `llmctl train`, the common flags included; `run` becomes the run's folder. Error{usage}.
std::vector<std::string> train_arguments(const LaunchWords& words, const Common& common, fs::path& run);
// cmd/launch_cluster.cpp
void add_slurm(CLI::App& launch, Common& common);
void add_kubernetes(CLI::App& launch, Common& common);

}  // namespace llmctl
