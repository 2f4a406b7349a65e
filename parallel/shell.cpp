// SPDX-License-Identifier: Apache-2.0
#include "parallel/shell.h"

#include <sys/wait.h>

#include <cstdio>
#include <memory>

#include "kernels/error.h"

namespace llmctl {

std::string shell_quoted(const std::string& word) {
  const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string shell_line(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + shell_quoted(word);
  return line;
}

CommandResult run_command(const std::vector<std::string>& words) {
  FILE* pipe = ::popen((shell_line(words) + " 2>&1 </dev/null").c_str(), "re");
  check(pipe != nullptr, Code::io, "[launch] cannot run ", words.front());
  CommandResult r;
  char piece[4096];
  for (size_t n; (n = ::fread(piece, 1, sizeof piece, pipe)) > 0;) r.output.append(piece, n);
  const int status = ::pclose(pipe);
  r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  while (!r.output.empty() && r.output.back() == '\n') r.output.pop_back();
  return r;
}

}  // namespace llmctl
