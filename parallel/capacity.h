// SPDX-License-Identifier: Apache-2.0
// How many ranks there is room for: what an elastic supervisor (supervisor.h) goes by.
//
// The slots file, where one is named, is the engine's or the operator's word: its first word is the number
// of ranks there is room for now, and a world grows or shrinks to it. Without a file, while it is absent,
// empty or malformed, what was known last holds, at first -n. A rank that was given up takes its place with
// it until that is said to be back: the file is written anew, or `regrow` seconds have passed, twice as many
// after each time.
#pragma once

#include <string>

#include "core/base/clock.h"
#include "core/base/file.h"

namespace llmctl {

class Capacity {
 public:
  // ranks: before the file says anything. regrow in seconds, 0: never.
  Capacity(int ranks, fs::path slots, double regrow);
  // Ranks to run now: may be 0 or less, which no world is. Looks at the file each time.
  int ranks();
  // One place of a world of so many is not to be counted on.
  void give_up_one(int world);
  // Why the last change of ranks() came about, one line without a dot.
  const std::string& why() const { return why_; }

 private:
  void look();
  const fs::path slots_;
  int room_, given_up_ = 0;
  double regrow_;
  Clock::time_point since_ = Clock::now();  // the last place was given up
  std::string seen_;                        // which writing of the file
  std::string why_;
};

}  // namespace llmctl
