// SPDX-License-Identifier: Apache-2.0
// Words for sh, and the cluster's own commands (sbatch, squeue, scontrol) run with them.
#pragma once

#include <string>
#include <vector>

namespace llmctl {

// One word for sh.
std::string shell_quoted(const std::string& word);
std::string shell_line(const std::vector<std::string>& words);

struct CommandResult {
  int code = 0;  // 127: not found
  std::string output;  // stdout and stderr, without newlines at the end
};
CommandResult run_command(const std::vector<std::string>& words);

}  // namespace llmctl
