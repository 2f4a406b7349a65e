// SPDX-License-Identifier: Apache-2.0
// What the server needs of a text classifier for POST /v1/moderations. The implementation lives in
// another room; cmd/serve.cpp hands it in.
// Threads: check() is called from several server threads at once.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace llmctl::serve {

struct ModerationCategory {
  std::string name;  // OpenAI's name where one fits, "violence/graphic" for example
  double score = 0;  // calibrated probability in [0, 1]
  bool flagged = false;
};

struct ModerationResult {
  std::vector<ModerationCategory> categories;  // those the classifier looked for
  bool flagged = false;
};

class Guard {
 public:
  virtual ~Guard() = default;
  virtual std::string model() const = 0;
  virtual ModerationResult check(std::string_view text) const = 0;
};

}  // namespace llmctl::serve
