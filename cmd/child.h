// SPDX-License-Identifier: Apache-2.0
// This program run again as a child: what `demo` does with every verb it shows.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace llmctl {

// A running child whose standard output is read here; its standard error is ours. Killed by the
// destructor when still running.
class Child {
 public:
  // arguments: as after the program's name, run in `folder`.
  Child(const std::vector<std::string>& arguments, const std::string& folder);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  // The next line of its output without the newline; false at its end.
  bool line(std::string& out);
  void terminate();  // SIGTERM
  // Waits for it; its exit status, or 128 + the signal that ended it.
  int wait();

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  std::string buffered_;
};

// POST of a JSON body to 127.0.0.1:port; each line of the reply's body goes to `line` as it comes.
// Returns the HTTP status. Error{io} when nothing answers.
int post_json(int port, const std::string& path, const std::string& body,
              const std::function<void(const std::string&)>& line);

}  // namespace llmctl
