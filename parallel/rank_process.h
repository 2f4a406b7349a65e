// SPDX-License-Identifier: Apache-2.0
// One rank as a child process of its supervisor. Used from one thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace llmctl {

struct RankStart {
  int rank = 0;
  std::string program;                 // its path
  std::vector<std::string> arguments;  // after the program's name
  std::vector<std::pair<std::string, std::string>> environment;  // over ours
  int keep_open = -1;  // a descriptor the child inherits under its number
};

// In a process group of its own, so that a terminal's Ctrl-C reaches it once, through the supervisor; told
// to end (SIGTERM) when the supervisor dies. Rank 0 writes to our stderr; what other ranks print goes there
// line by line with their number in front. The destructor kills and reaps.
class RankProcess {
 public:
  explicit RankProcess(const RankStart& start);  // Error{io}
  ~RankProcess();
  RankProcess(RankProcess&& o) noexcept;
  RankProcess& operator=(RankProcess&&) = delete;

  int rank() const { return rank_; }
  pid_t pid() const { return pid_; }
  bool running() const { return running_; }
  int status() const { return status_; }  // as waitpid says, once it ended
  // Reads what it printed, without waiting; notices its end.
  void attend();
  void signal(int number) const;
  // What rank 0 printed on stdout.
  const std::string& output() const { return output_; }
  // To wait for with poll(); -1 when closed.
  int out_fd() const { return out_; }
  int err_fd() const { return err_; }

 private:
  bool drain(int& fd, std::string& into) const;
  void relay(bool all);
  int rank_ = 0, status_ = 0, out_ = -1, err_ = -1;
  pid_t pid_ = -1;
  bool running_ = false;
  std::string output_, errors_;
};

// "was killed by signal 9 (Killed)", "ended with exit code 6 (device or communication)".
std::string describe_status(int status);

}  // namespace llmctl
