// SPDX-License-Identifier: Apache-2.0
// The one exception of the project. The code is the process exit status when it reaches main.
// Text: "[who] what went wrong: the two values that disagree, and what to do" on one line.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace llmctl {

enum class Code : int {
  no = 1,            // the answer is no: a check failed, digests differ
  usage = 2,         // wrong flags
  input = 3,         // a file or request that cannot be used
  unsupported = 4,   // understood, not offered
  memory = 5,        // does not fit
  device = 6,        // GPU or communication failure
  io = 7,            // cannot read or write: disk full, permission
  bug = 70,          // our mistake
  interrupted = 130  // SIGINT or SIGTERM, after saving what a resume needs
};

struct Error : std::runtime_error {
  Error(Code c, const std::string& text) : std::runtime_error(text), code(c) {}
  Code code;
};

// Throws Error{code, parts...} unless ok. The text is only built on failure.
template <class... Parts>
inline void check(bool ok, Code code, const Parts&... parts) {
  if (ok) [[likely]]
    return;
  std::ostringstream text;
  (text << ... << parts);
  throw Error(code, text.str());
}

}  // namespace llmctl
